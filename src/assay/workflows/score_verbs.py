"""``assay score`` and ``assay export``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from datasets import Dataset

from assay.console import progress, say, show
from assay.errors import DataError, ModelError
from assay.evaluation.heat import Heat, heat, token_page
from assay.feedback import kind_of, read_with_report
from assay.feedback.records import as_chat, prompt_text
from assay.output import as_bytes, check_new, new_file, new_folder, write_atomic, write_json
from assay.scorers import RewardModel, export
from assay.scorers.core import ScoringCore
from assay.scorers.export import why_not
from assay.scorers.prefixes import why_no_prefix_scores
from assay.scorers.scored import Conversation, Score
from assay.workflows.judge_settings import ExportSettings, ScoreSettings
from assay.workflows.judging import load_models

_ROWS_AT_ONCE, _PROTOTYPES = 512, 3


def score_data(settings: ScoreSettings) -> dict[str, Any]:
    """Run `assay score`: one JSON line per response, to a file that appears whole or to standard output.

    Each line holds ``prompt_id``, ``index`` (of the response among those of its prompt), ``prompt``, ``response``,
    ``score``, ``truncated``, of models that tell how sure they are ``std`` (against the other responses to the prompt,
    where there are some), and with ``--tokens`` the response's ``tokens`` and ``prefix_scores``, one more than there
    are tokens: the first is the bare prompt's (null where that has no token; such responses are not drawn), and their
    differences are what `assay.credit.redistribute` gives each token; ``--html`` draws a page of them. With
    ``--explain`` it holds the ``prototypes`` that weigh most in the score, each with its class and the training
    responses nearest to it. Memory does not grow with the number of lines.
    """
    if settings.out:
        check_new(settings.out, overwrite=settings.overwrite)
    (model,) = load_models(settings, [settings.model])
    if settings.html:
        check_new(settings.html, overwrite=settings.overwrite)
    if settings.tokens and not settings.truncated and (reason := why_no_prefix_scores(model)):
        raise ModelError(
            "this model has no score per token",
            where=settings.model,
            got=reason,
            remedy="leave --tokens out, or let --truncated score every prefix as a text of its own",
        )
    _refuse_reduction(model, settings)
    if settings.explain:
        if model.reads_replies:
            raise ModelError("a policy has no prototypes to explain a score by", where=settings.model)
        model.explain([], [])  # refused before much data is read
    data, report = read_with_report(settings.data, **settings.reading())
    if kind_of(data) == "prompts":
        raise DataError("these are prompts without responses", where=settings.data, expected="responses to score")
    say("\n".join(report.lines()))
    if settings.dry_run:
        show(f"would score the responses to {len(data):,} prompts; nothing was written")
        return {"dry_run": True, "records": len(data)}
    counts, without = {"responses": 0, "truncated": 0}, 0
    coloured: list[Heat] = []
    lines = _scores(model, data, settings)
    with _lines_to(settings.out) as write:
        # a bar would run through lines on the same terminal
        for line in progress(lines, "scoring: responses") if settings.out else lines:
            write(line)
            counts["responses"] += 1
            counts["truncated"] += line["truncated"]
            bare = settings.tokens and line["prefix_scores"][0] is None
            without += bare
            if settings.html and len(coloured) < settings.shown and not bare:
                coloured.append(heat(line["prompt"], line["tokens"], line["prefix_scores"]))
    if without:
        say(f"{without:,} responses follow a prompt without a token, which has no score: null in prefix_scores")
    if settings.html:
        left_out = counts["responses"] - len(coloured)
        write_atomic(settings.html, token_page(settings.model, coloured, left_out))
    say(f"scored {counts['responses']:,} responses; {counts['truncated']:,} texts were truncated")
    return counts


@contextmanager
def _lines_to(out: str | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a writer of JSON lines: to a file that appears when the block ends well, or to standard output."""
    if out is None:
        yield lambda line: show(json.dumps(line, ensure_ascii=False))
        return
    with new_file(out) as file:
        yield lambda line: _write_line(file, line)


def _write_line(file: BinaryIO, line: dict[str, Any]) -> None:
    file.write(as_bytes(json.dumps(line, ensure_ascii=False) + "\n"))


def _scores(model: RewardModel, data: Dataset, settings: ScoreSettings) -> Iterator[dict[str, Any]]:
    core = ScoringCore(model, settings.token_budget)
    ratings = kind_of(data) == "ratings"
    for batch in data.iter(_ROWS_AT_ONCE):
        heads: list[dict[str, Any]] = []
        given: list[Conversation] = []
        for row, prompt in enumerate(batch["prompt"]):
            replies = [batch["response"][row]] if ratings else batch["responses"][row]
            packed = [None] * len(replies) if ratings else batch["response_messages"][row]
            name, text, chat = batch["prompt_id"][row], prompt_text(prompt), as_chat(prompt)
            for number, (reply, messages) in enumerate(zip(replies, packed, strict=True)):
                heads.append({"prompt_id": name, "index": number, "prompt": text, "response": reply})
                given.append(Conversation(chat, json.loads(messages) if messages else reply, group=name))
        found = core.score(
            given,
            tokens=settings.tokens,
            truncated=settings.truncated,
            prototypes=_PROTOTYPES if settings.explain else 0,
        )
        for head, score in zip(heads, found, strict=True):
            yield head | _told(score, settings)


def _told(score: Score, settings: ScoreSettings) -> dict[str, Any]:
    """Return what a line says of a score."""
    value = score.value
    if score.std is not None and settings.reduce == "lcb":
        value -= settings.b * score.std
    elif score.lowest is not None and settings.reduce == "min":
        value = score.lowest
    line: dict[str, Any] = {"score": round(value, 6), "truncated": score.truncated}
    if score.std is not None:
        line["std"] = round(score.std, 6)
    if score.prototypes is not None:
        line["prototypes"] = score.prototypes
    if score.prefix_scores is not None:
        known = [round(each, 6) if math.isfinite(each) else None for each in score.prefix_scores]
        line |= {"tokens": score.tokens, "prefix_scores": known}
    return line


def _refuse_reduction(model: RewardModel, settings: ScoreSettings) -> None:
    """Refuse to reduce what is no ensemble."""
    members = model.config.members > 1 and not model.config.levels
    if settings.reduce == "mean" or (model.is_uncertain and (settings.reduce == "lcb" or members)):
        return
    raise ModelError(
        f"--reduce {settings.reduce} needs a model that tells how sure it is",
        where=settings.model,
        expected="several members" + (", a posterior, or quantiles" if settings.reduce == "lcb" else ""),
        got="deviations without members" if model.is_uncertain else "one head",
        remedy="train with --ensemble.members 5, or leave --reduce out",
    )


def export_model(settings: ExportSettings) -> dict[str, Any]:
    """Run `assay export`; return the largest score difference between the two forms."""
    check_new(settings.out, overwrite=settings.overwrite)
    model = RewardModel.from_pretrained(settings.model)
    if settings.dry_run:
        if reason := why_not(model):
            raise ModelError("this model cannot be exported", where=settings.model, got=reason)
        return {"dry_run": True}
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        difference = export(model, folder)
        calibration = model.record.calibration
        write_json(folder / "metrics.json", {"largest_difference": difference, "calibration": calibration})
    return {"largest_difference": difference}
