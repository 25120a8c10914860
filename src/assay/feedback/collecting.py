"""Statistics of a stream of records in a few bytes per row: hashes and lengths in flat arrays, no text."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.feedback.encoding_damage import damage
from assay.feedback.flat_arrays import hashed
from assay.feedback.graded_responses import GradedResponses
from assay.feedback.problems import Tally
from assay.feedback.records import Kind, Message

MAX_NAMES = 1000


@dataclass
class Names:
    """Counts names up to ``MAX_NAMES`` different ones; occurrences of further names are counted together."""

    counts: Counter[str] = field(default_factory=Counter)
    others: int = 0

    def add(self, name: str) -> None:
        """Count one occurrence."""
        if name in self.counts or len(self.counts) < MAX_NAMES:
            self.counts[name] += 1
        else:
            self.others += 1

    def to_dict(self, top: int = 20) -> dict[str, Any]:
        """Return how many names there are, and the most frequent."""
        result: dict[str, Any] = {"different": len(self.counts), "top": dict(self.counts.most_common(top))}
        return {**result, "occurrences_of_further_names": self.others} if self.others else result


@dataclass
class Span:
    """Number, range and mean of one dimension's grades."""

    rated: int = 0
    unrated: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0

    def add(self, value: float | None) -> None:
        """Take one grade."""
        if value is None:
            self.unrated += 1
            return
        self.rated += 1
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.total += value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; min, max and mean only if anything is rated."""
        spread = {"min": self.low, "max": self.high, "mean": self.total / self.rated} if self.rated else {}
        return {"rated": self.rated, "unrated": self.unrated, **spread}


class Collector:
    """Takes records one by one.

    Attributes
    ----------
    prompts, groups
        One 64-bit hash per record.
    pair_keys, verdicts, longer, edge_groups
        Per judgement: hash of prompt and unordered pair; +1, -1, 0 (tie) in an order that both directions share;
        +1 if the longer response won, -1 if the shorter, 0 if neither; hash of the split group.
    singles
        The records that hold one graded response each.
    prompt_chars, response_chars
        Lengths in characters.
    """

    def __init__(self, kind: Kind, sample: int = 0, seed: int = 0) -> None:
        self.kind = kind
        self.prompts, self.groups = array("Q"), array("Q")
        self.pair_keys, self.edge_groups = array("Q"), array("Q")
        self.singles = GradedResponses()
        self.verdicts, self.longer = array("b"), array("b")
        self.prompt_chars, self.response_chars = array("I"), array("I")
        self.ties = self.soft = self.missing_truth = self.unlabelled = 0
        self.labels: Counter[str] = Counter()
        self.encoding, self.empty = Tally(), Tally()
        self.sources, self.annotators = Names(), Names()
        self.grades: dict[str, Span] = {}
        self.sample: list[tuple[list[Message], str]] = []
        self._sample_size, self._seen = sample, 0
        self._random = np.random.default_rng(seed)

    def add(self, place: str, record: dict[str, Any]) -> None:
        """Take one record."""
        self.prompts.append(int(record["prompt_id"][:16], 16))
        self.groups.append(hashed(record["split_group"]))
        self.prompt_chars.append(sum(len(turn["content"]) for turn in record["prompt"]))
        self._look("prompt", "".join(turn["content"] for turn in record["prompt"]), place, bool(record["prompt"]))
        if self.kind == "comparisons":
            self._comparison(record, place)
        elif self.kind == "ratings":
            self._rating(record, place)
        else:
            self.sources.add(record["source"])
            self.missing_truth += record["ground_truth"] is None
            self._take_sample(record["prompt"], "")

    def _look(self, what: str, text: str, place: str, must_have_text: bool = True) -> None:
        if must_have_text and (not text or text.isspace()):
            self.empty.add(what, place)
        for kind in damage(text):
            self.encoding.add(kind, place)

    def _comparison(self, record: dict[str, Any], place: str) -> None:
        responses = record["responses"]
        for text in responses:
            self.response_chars.append(len(text))
            self._look("response", text, place)
            self._take_sample(record["prompt"], text)
        for own in record["grades"]:
            for grade in own:
                self.grades.setdefault(grade["dimension"], Span()).add(grade["value"])
        graded = [grade["value"] for own in record["grades"] for grade in own if grade["value"] is not None]
        if len(responses) == 1 and graded:
            self.singles.add(self.prompts[-1], self.groups[-1], responses[0], sum(graded) / len(graded))
        elif not record["edges"]:
            self.unlabelled += 1
        group = self.groups[-1]
        for judged in record["edges"]:
            self._edge(judged, responses, record["prompt_id"], group)

    def _edge(self, judged: dict[str, Any], responses: list[str], prompt_id: str, group: int) -> None:
        first, second, p = responses[judged["a"]], responses[judged["b"]], judged["p"]
        sign = (p > 0.5) - (p < 0.5)
        longer = (len(first) > len(second)) - (len(first) < len(second))
        swapped = first > second
        self.pair_keys.append(hashed(prompt_id, second, first) if swapped else hashed(prompt_id, first, second))
        self.verdicts.append(-sign if swapped else sign)
        self.longer.append(sign * longer)
        self.edge_groups.append(group)
        self.ties += sign == 0
        self.soft += p not in (0.0, 0.5, 1.0)
        self.sources.add(judged["source"])
        if judged["annotator"] is not None:
            self.annotators.add(judged["annotator"])

    def _rating(self, record: dict[str, Any], place: str) -> None:
        text = record["response"]
        self.response_chars.append(len(text))
        self._look("response", text, place)
        self._take_sample(record["prompt"], text)
        self.sources.add(record["source"])
        if record["annotator"] is not None:
            self.annotators.add(record["annotator"])
        if record["label"] is not None:
            self.labels["good" if record["label"] else "bad"] += 1
            verdict = 1 if record["label"] else -1
        else:
            self.grades.setdefault(record["dimension"], Span()).add(record["grade"])
            verdict = 0
        key = (record["prompt_id"], text, record["dimension"], record["step"])
        self.pair_keys.append(hashed(*key) if verdict else hashed(*key, record["grade"]))
        self.verdicts.append(verdict)
        self.edge_groups.append(self.groups[-1])

    def _take_sample(self, prompt: list[Message], response: str) -> None:
        """Keep a uniform sample of what was seen so far (reservoir, algorithm R of Vitter 1985)."""
        if not self._sample_size:
            return
        self._seen += 1
        if len(self.sample) < self._sample_size:
            self.sample.append((prompt, response))
        elif (at := int(self._random.integers(self._seen))) < self._sample_size:
            self.sample[at] = (prompt, response)


def repeats(keys: np.ndarray, verdicts: np.ndarray) -> tuple[int, int]:
    """Return how many judgements repeat an earlier one, and how many pairs were judged both ways."""
    if not len(keys):
        return 0, 0
    order = np.lexsort((verdicts, keys))
    keys, verdicts = keys[order], verdicts[order]
    same_pair = keys[1:] == keys[:-1]
    duplicates = int((same_pair & (verdicts[1:] == verdicts[:-1])).sum())
    starts = np.flatnonzero(np.concatenate([[True], ~same_pair]))
    lowest, highest = np.minimum.reduceat(verdicts, starts), np.maximum.reduceat(verdicts, starts)
    return duplicates, int(((lowest < 0) & (highest > 0)).sum())


def grouped_share(outcomes: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Return the share of +1 among the outcomes that are not 0, with a 95 % interval that respects groups.

    The variance is that of a ratio estimator over groups, ``sum_g (y_g - share * n_g)^2 / n^2``; it gives an effective
    number of observations for Wilson's interval (Wilson 1927). With one judgement per group this is Wilson's own.
    """
    decided = outcomes != 0
    n = int(decided.sum())
    if not n:
        return {"share": None, "ci95": None, "judgements": 0}
    won = outcomes[decided] > 0
    share = float(won.mean())
    _, index = np.unique(groups[decided], return_inverse=True)
    residual = np.bincount(index, weights=won - share)
    variance = float((residual**2).sum()) / n**2
    effective = share * (1 - share) / variance if variance > 0 else float(len(residual))
    return {"share": share, "ci95": list(_wilson(share, min(effective, n))), "judgements": n}


def _wilson(share: float, n: float, z: float = 1.959963984540054) -> tuple[float, float]:
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((share * (1 - share) + z * z / (4 * n)) / n) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def length_quantiles(lengths: np.ndarray) -> dict[str, int]:
    """Return minimum, 5th, 25th, 50th, 75th, 95th percentile and maximum, each an observed length."""
    if not len(lengths):
        return {}
    levels = {"min": 0, "p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "max": 100}
    found = np.percentile(lengths, list(levels.values()), method="lower")
    return {name: int(value) for name, value in zip(levels, found, strict=True)}
