"""Worse versions of responses, whose order is known: key phrases taken away by degrees (SPO, Li et al. 2024)."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from assay.errors import DataError
from assay.feedback.pairs import pairs
from assay.feedback.records import edge, with_responses

DEGRADED = "degraded"  # source of judgements between versions
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


def key_phrases(text: str) -> list[tuple[int, int]]:
    """Return the key phrases of a text as (start, end), most telling first.

    RAKE (Rose et al. 2010): phrases are runs of words between English stop words and marks; a word is worth its degree
    (words of the phrases that it is in) over how often it comes, a phrase what its words are worth together. Equal ones
    come in order.
    """
    runs: list[list[re.Match[str]]] = [[]]
    former = 0
    for word in _WORD.finditer(text):
        apart = text[former : word.start()].strip() != ""
        former = word.end()
        if apart and runs[-1]:
            runs.append([])
        if word.group().lower() in ENGLISH_STOP_WORDS:
            if runs[-1]:
                runs.append([])
            continue
        runs[-1].append(word)
    degree: defaultdict[str, int] = defaultdict(int)
    count: Counter[str] = Counter()
    for run in runs:
        for word in run:
            degree[word.group().lower()] += len(run)
            count[word.group().lower()] += 1
    worth = {word: degree[word] / count[word] for word in count}
    phrases = [run for run in runs if run]
    phrases.sort(key=lambda run: (-sum(worth[word.group().lower()] for word in run), run[0].start()))
    return [(run[0].start(), run[-1].end()) for run in phrases]


def degraded(text: str, levels: int) -> list[tuple[float, str]]:
    """Return versions of a text with growing shares of its key phrases taken away.

    The first is the text itself, byte for byte, and the last has none left. A text with too few phrases has fewer
    versions: no two of them are equal. What is taken away makes versions shorter, so their order is one of length too.

    Parameters
    ----------
    text
        A response.
    levels
        Versions, at least 2.

    Returns
    -------
    list
        (share taken away, version), best first.

    Raises
    ------
    DataError
        If there are fewer than two levels.
    """
    if levels < 2:
        raise DataError("versions need levels", expected="2 or more", got=str(levels))
    phrases = key_phrases(text)
    found, former = [(0.0, text)], 0
    for level in range(1, levels):
        taken = math.ceil(len(phrases) * level / (levels - 1))
        if taken == former:
            continue
        former = taken
        found.append((taken / len(phrases), _without(text, phrases[:taken])))
    return found


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    kept, start = [], 0
    for begin, end in sorted(spans):
        kept.append(text[start:begin])
        start = end
    joined = "".join([*kept, text[start:]])
    return re.sub(r"[ \t]{2,}", " ", joined).strip()


def with_degraded(data: Dataset, levels: int, weight: float) -> tuple[Dataset, dict[str, int]]:
    """Append worse versions of every judged response, and a judgement for each two versions of one response.

    The paper adds a classifier of degrees to the loss; here the order is judgements like any others, so any scorer,
    target and kernel takes it, and no part is added to a model.

    Parameters
    ----------
    data
        Comparisons.
    levels
        Versions of a response, the response itself among them.
    weight
        Of all judgements between versions of a record's responses together, in units of the record's own judgements;
        0: nothing is appended.

    Returns
    -------
    tuple
        The records, and counts: ``versions`` and ``judgements`` that were appended.

    Raises
    ------
    DataError
        If the weight is below 0.
    """
    if weight < 0:
        raise DataError("a weight is out of range", expected="0 or more", got=str(weight))
    if weight == 0:
        return data, {"versions": 0, "judgements": 0}
    view = pairs(data)
    own = np.bincount(view.row, view.w, minlength=len(data))
    counts = Counter({"versions": 0, "judgements": 0})

    def grown(record: dict[str, Any], row: int) -> dict[str, Any]:
        texts, judged = list(record["responses"]), []
        for place in sorted({side for one in record["edges"] for side in (one["a"], one["b"])}):
            several = [place]
            for _, version in degraded(record["responses"][place], levels)[1:]:
                if version and version not in texts:
                    several.append(len(texts))
                    texts.append(version)
            judged += [(better, worse) for k, better in enumerate(several) for worse in several[k + 1 :]]
        share = weight * float(own[row]) / max(len(judged), 1)
        edges = [*record["edges"], *(edge(a, b, w=share, source=DEGRADED) for a, b in judged)]
        return with_responses(record, texts[len(record["responses"]) :]) | {"edges": edges}

    made = data.map(grown, with_indices=True, features=data.features, desc="Taking key phrases away")
    counts["versions"] = sum(map(len, made["responses"])) - sum(map(len, data["responses"]))
    counts["judgements"] = sum(map(len, made["edges"])) - sum(map(len, data["edges"]))
    return made, dict(counts)
