"""``check``: look at feedback before anything is trained on it, row by row and in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from assay.feedback.check_report import CheckReport, Finding
from assay.feedback.collecting import Collector, grouped_share, length_quantiles, repeats
from assay.feedback.drafts import Ties
from assay.feedback.flat_arrays import flat, hashed
from assay.feedback.graded_responses import GradedPairs
from assay.feedback.mapping import ColumnMapping
from assay.feedback.problems import Problems
from assay.feedback.reading import SourceLike
from assay.feedback.records import Message, prompt_text
from assay.feedback.sources import open_source
from assay.feedback.stream import ReadOptions, RecordStream

#: ``encoder(prompt messages, response) -> (prompt tokens, response tokens, limit)``.
Encoder = Callable[[list[Message], str], tuple[int, int, int]]

SHOWN_ERRORS = 20
SHOWN_EXAMPLES = 5
SAMPLE_TEXTS = 2000


def check(
    source: SourceLike,
    format: str = "auto",
    *,
    mapping: ColumnMapping | Mapping[str, Any] | None = None,
    split: str | None = None,
    tokenizer: Any = None,
    group: str | None = None,
    ties: Ties = "keep",
    test: SourceLike | None = None,
    encoder: Encoder | None = None,
    seed: int = 0,
) -> CheckReport:
    """Check feedback: schema, repeats, contradictions, leaks, empty and damaged texts, lengths, truncation.

    Source and reading options are those of :func:`assay.feedback.read_with_report`. Rows that cannot be read are
    errors, and the check goes on behind them. Memory grows by some 50 bytes per judgement.

    Parameters
    ----------
    test
        A second source, read in the same way: split groups and prompts that occur in both are errors.
    encoder
        Tells how many tokens a prompt and a response take, and how many there is room for; asked about at most
        2,000 responses, drawn by ``seed``.

    Raises
    ------
    DataError
        If the source does not exist, is empty, or its layout is unknown or ambiguous.
    """
    options = ReadOptions.of(format, mapping, tokenizer, group, ties)
    stream = RecordStream(open_source(source, split), options, Problems(keep=SHOWN_ERRORS))
    collector = Collector(stream.shape.kind, SAMPLE_TEXTS if encoder is not None else 0, seed)
    for file, row, record in stream:
        collector.add(f"{file}:{row}", record)
    report = CheckReport(stream.source.name, stream.shape.name, stream.shape.kind)
    _schema(report, stream)
    _sizes(report, stream, collector)
    _repeats(report, collector)
    _texts(report, collector)
    if stream.shape.kind == "comparisons" and len(collector.singles):
        _graded(report, collector.singles.pairs(), ties)
    elif stream.shape.kind == "comparisons":
        _verdicts(report, collector)
    _who(report, collector)
    if encoder is not None:
        _truncation(report, collector, encoder)
    if test is not None:
        _overlap(report, collector, test, options)
    return report


def _schema(report: CheckReport, stream: RecordStream, prefix: str = "") -> None:
    problems = stream.problems
    if problems.count:
        lines = tuple(problems.lines())
        shown = f", the first {len(lines)} shown" if problems.count > len(lines) else ""
        report.errors.append(Finding(f"{prefix}row cannot be read", problems.count, f"mend or remove{shown}", lines))
    messages = {"identical pair": "dropped when read", "prompts differ": "dropped when read"}
    for name, count in stream.dropped.counts.items():
        first = stream.dropped.places.get(name)
        report.warnings.append(
            Finding(prefix + name, count, messages.get(name, "left out when read"), (first,) if first else ())
        )
    for name, count in stream.notes.counts.items():
        first = stream.notes.places.get(name)
        report.warnings.append(Finding(prefix + name, count, "kept, only counted", (first,) if first else ()))


def _sizes(report: CheckReport, stream: RecordStream, collector: Collector) -> None:
    counts = report.counts
    counts["rows"] = stream.rows
    counts["rows_with_errors"] = stream.problems.count
    counts["dropped"] = dict(stream.dropped.counts)
    counts["prompts"] = len(np.unique(flat(collector.prompts)))
    counts["split_groups"] = len(np.unique(flat(collector.groups)))
    if collector.kind != "prompts":
        counts["judgements"] = len(collector.pair_keys)
        counts["responses"] = len(collector.response_chars)
        counts["response_chars"] = length_quantiles(flat(collector.response_chars))
    counts["prompt_chars"] = length_quantiles(flat(collector.prompt_chars))
    if collector.kind == "comparisons" and collector.unlabelled:
        counts["rows_without_judgement"] = collector.unlabelled
    if collector.kind == "prompts":
        counts["without_ground_truth"] = collector.missing_truth


def _repeats(report: CheckReport, collector: Collector) -> None:
    if collector.kind == "prompts":
        return
    duplicates, contradictions = repeats(flat(collector.pair_keys), flat(collector.verdicts))
    report.counts["duplicates"], report.counts["contradictions"] = duplicates, contradictions
    if duplicates:
        text = "the same pair judged the same way again; each stays a judgement of its own"
        report.warnings.append(Finding("duplicate judgement", duplicates, text))
    if contradictions:
        what = "pair" if collector.kind == "comparisons" else "response"
        text = f"the same {what} judged both ways; both judgements are kept"
        report.warnings.append(Finding(f"contradicted {what}", contradictions, text))


def _texts(report: CheckReport, collector: Collector) -> None:
    report.counts["empty"] = dict(collector.empty.counts)
    report.counts["encoding_damage"] = dict(collector.encoding.counts)
    for what, count in collector.empty.counts.items():
        report.warnings.append(Finding(f"empty {what}", count, "kept", (collector.empty.places[what],)))
    for what, count in collector.encoding.counts.items():
        place = (collector.encoding.places[what],)
        report.warnings.append(Finding(f"text with {what}", count, "kept as it is; was it decoded rightly?", place))


def _verdicts(report: CheckReport, collector: Collector) -> None:
    judgements = len(collector.pair_keys)
    report.counts["ties"] = {"count": collector.ties, "share": collector.ties / judgements if judgements else None}
    report.counts["soft_targets"] = collector.soft
    report.counts["longer_wins"] = grouped_share(flat(collector.longer), flat(collector.edge_groups))


def _graded(report: CheckReport, pairs: GradedPairs, ties: Ties) -> None:
    """Say of rows with one graded response each what reading will make of them."""
    kept = len(pairs.longer) - (pairs.ties if ties == "drop" else 0)
    report.counts["judgements"] = kept
    report.counts["ties"] = {
        "count": pairs.ties,
        "share": pairs.ties / len(pairs.longer) if len(pairs.longer) else None,
    }
    report.counts["longer_wins"] = grouped_share(pairs.longer, pairs.groups)
    report.counts["duplicates"] = pairs.repeated
    if pairs.repeated:
        text = "the same response to the same prompt graded again; the mean of its grades counts"
        report.warnings.append(Finding("repeated response", pairs.repeated, text))
    if pairs.alone:
        text = "dropped when read: nothing to compare the response with"
        report.warnings.append(Finding("prompt with one response only", pairs.alone, text))


def _who(report: CheckReport, collector: Collector) -> None:
    report.counts["sources"] = collector.sources.to_dict()
    if collector.annotators.counts:
        report.counts["annotators"] = collector.annotators.to_dict()
    if collector.labels:
        report.counts["labels"] = dict(collector.labels)
    if collector.grades:
        report.counts["grades"] = {name: span.to_dict() for name, span in collector.grades.items()}


def _truncation(report: CheckReport, collector: Collector, encoder: Encoder) -> None:
    """Ask the encoder about the sample; a response alone over the limit loses its own text, else the prompt does."""
    encoded = [encoder(prompt, response) for prompt, response in collector.sample]
    if not encoded:
        return
    prompt, response, limit = (np.array(column) for column in zip(*encoded, strict=True))
    over_response = response > limit
    over = (prompt + response > limit) & ~over_response
    seen = len(collector.response_chars) or len(collector.prompts)
    report.counts["truncation"] = {
        "sampled_texts": len(encoded),
        "of_texts": seen,
        "limit_tokens": int(limit.max()),
        "prompt_cut_share": float(over.mean()),
        "response_cut_share": float(over_response.mean()),
        "total_tokens": length_quantiles(prompt + response),
    }
    of = f"of {len(encoded)} sampled texts" if seen > len(encoded) else f"of {len(encoded)} texts"
    for name, cut in (("prompt too long", over), ("response too long", over_response)):
        if cut.any():
            side = "prompt" if cut is over else "response"
            text = f"{of} exceed {int(limit.max())} tokens; the {side} will be cut"
            report.warnings.append(Finding(name, int(cut.sum()), text))


def _overlap(report: CheckReport, collector: Collector, test: SourceLike, options: ReadOptions) -> None:
    stream = RecordStream(open_source(test), options, Problems(keep=SHOWN_ERRORS))
    groups, prompts = np.unique(flat(collector.groups)), np.unique(flat(collector.prompts))
    other = Collector(stream.shape.kind)
    examples: list[str] = []
    rows = 0
    for file, row, record in stream:
        other.groups.append(hashed(record["split_group"]))
        other.prompts.append(int(record["prompt_id"][:16], 16))
        if _contains(groups, other.groups[-1]) or _contains(prompts, other.prompts[-1]):
            rows += 1
            if len(examples) < SHOWN_EXAMPLES:
                text = prompt_text(record["prompt"][:1]).strip().replace("\n", " ")
                examples.append(f"{file}:{row}: {text[:80]}")
    _schema(report, stream, prefix="test: ")
    shared = len(np.intersect1d(groups, np.unique(flat(other.groups))))
    leaking = np.isin(flat(collector.groups), flat(other.groups))
    leaking |= np.isin(flat(collector.prompts), flat(other.prompts))
    train_rows = int(leaking.sum())
    report.counts["test_overlap"] = {"split_groups": shared, "rows": train_rows, "test_rows": rows}
    if rows:
        text = f"on both sides ({train_rows} rows here, {rows} rows of the test data): remove them from one side"
        report.errors.append(Finding("split group or prompt", max(shared, 1), text, tuple(examples)))


def _contains(ordered: np.ndarray, value: int) -> bool:
    at = int(np.searchsorted(ordered, np.uint64(value)))
    return at < len(ordered) and int(ordered[at]) == value
