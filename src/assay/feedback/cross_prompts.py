"""Answers to other prompts as losers: what is good whatever was asked must not win by that alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset

from assay.errors import DataError
from assay.feedback.pairs import Pairs, pairs
from assay.feedback.records import edge, with_responses

CROSS_PROMPT = "another prompt"  # source of the appended judgements


def with_cross_prompts(
    data: Dataset, share: float, seed: int, part: np.ndarray | None = None
) -> tuple[Dataset, dict[str, int]]:
    """Append to records a good answer to another prompt, which loses against their own.

    Judgements are drawn without replacement among those that take a side. Each gets a partner: the preferred response
    of such a judgement of another split group, which is appended to the record as a response without grades, with a
    judgement of p = 1 and the weight of the drawn one against it.

    Parameters
    ----------
    data
        Comparisons.
    share
        From 0 to 1: how many are appended, in proportion to the judgements that take a side.
    seed
        Of the draws.
    part
        ``[R]``: partners are of the same part, so that what is held out of a part stays out; None: one part.

    Returns
    -------
    tuple
        The records, and counts: ``appended``; ``without_partner``, where a part has no other group.

    Raises
    ------
    DataError
        If the share is out of range.
    """
    if not 0 <= share <= 1:
        raise DataError("a share is out of range", expected="a number from 0 to 1", got=str(share))
    view = pairs(data)
    decided = np.flatnonzero((view.p != 0.5) & (view.w > 0))
    random = np.random.default_rng((seed, 7))
    drawn = np.sort(random.permutation(decided)[: int(np.floor(share * len(decided) + 1e-9))])
    best = np.where(view.p > 0.5, view.a, view.b)
    of_part = np.zeros(len(data), np.int64) if part is None else part
    partners = _partners(view, decided, of_part, random)
    chosen = {int(index): partner for index in drawn if (partner := partners(int(index))) is not None}
    donors = sorted(set(chosen.values()))
    texts = {i: _response(data, int(view.row[i]), int(best[i])) for i in donors}
    appended: dict[int, list[tuple[int, int]]] = {}
    for index, partner in chosen.items():
        appended.setdefault(int(view.row[index]), []).append((index, partner))

    def grown(record: dict[str, Any], row: int) -> dict[str, Any]:
        more = appended.get(row, [])
        first = len(record["responses"])
        judged = [
            edge(int(best[index]), first + place, w=float(view.w[index]), source=CROSS_PROMPT)
            for place, (index, _) in enumerate(more)
        ]
        new = [texts[partner] for _, partner in more]
        grown_by = with_responses(record, [text for text, _ in new], [messages for _, messages in new])
        return grown_by | {"edges": [*record["edges"], *judged]}

    told = {"appended": len(chosen), "without_partner": len(drawn) - len(chosen)}
    if not chosen:
        return data, told
    return data.map(grown, with_indices=True, features=data.features, desc="Appending answers to other prompts"), told


def with_answers_elsewhere(data: Dataset, seed: int) -> tuple[Dataset, np.ndarray]:
    """Append to each record a response to a prompt of another split group, which nobody judges.

    Of what a policy says there KTO estimates how far it is from its reference. The response's record is the next one of
    another group in a random order, so that each record gives about one.

    Returns
    -------
    tuple
        The records, and which of them got one, bool ``[records]``: all, unless there is one group only.
    """
    random = np.random.default_rng((seed, 11))
    order = random.permutation(len(data))
    groups = np.asarray(data["split_group"], object)[order]
    counts = np.array([len(responses) for responses in data["responses"]])
    donors: dict[int, int] = {}
    for place in range(len(order)):
        steps = (step % len(order) for step in range(place + 1, place + len(order)))
        donor = next((step for step in steps if groups[step] != groups[place] and counts[order[step]]), None)
        if donor is not None:
            donors[int(order[place])] = int(order[donor])
    texts = {
        donor: _response(data, donor, int(random.integers(counts[donor]))) for donor in sorted(set(donors.values()))
    }

    def grown(record: dict[str, Any], row: int) -> dict[str, Any]:
        if row not in donors:
            return {}
        text, messages = texts[donors[row]]
        return with_responses(record, [text], [messages])

    got = np.isin(np.arange(len(data)), list(donors))
    return data.map(grown, with_indices=True, features=data.features, desc="Appending answers to other prompts"), got


def _partners(view: Pairs, decided: np.ndarray, part: np.ndarray, random: np.random.Generator) -> Any:
    """Return a function that draws, for a judgement, one of another group within its part; None where there is none."""
    pools = {value: decided[part[view.row[decided]] == value] for value in np.unique(part)}
    several = {value: len(set(view.group[pool])) > 1 for value, pool in pools.items()}

    def draw(index: int) -> int | None:
        value = part[view.row[index]]
        if not several[value]:
            return None
        while True:  # ends: some judgement of the pool is of another group
            found = int(random.choice(pools[value]))
            if view.group[found] != view.group[index]:
                return found

    return draw


def _response(data: Dataset, row: int, place: int) -> tuple[str, str | None]:
    record = data[row]
    return record["responses"][place], (record["response_messages"] or {place: None})[place]
