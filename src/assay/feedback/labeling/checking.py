"""What every labeling function must do: for users' own functions, and for the tests of ours."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np

from assay.errors import DataError
from assay.feedback.labeling.functions import Batch, LabelingFunction
from assay.feedback.labeling.texts import Texts

#: Texts that break functions written with plain ones in mind.
ODD_TEXTS = (
    "",
    " ",
    "\n\n\t",
    ".",
    "?!?!",
    "0",
    "12 345 -6.7 8e9 1,000,000",
    "a",
    "A plain sentence, with a comma. And another one!",
    "ALL CAPITALS, AND LOUD",
    "naïve café — “quotes” … ﬁ",
    "Ελληνικά, русский, العربية, עברית, 中文, 日本語, 한국어, ไทย",
    "👩‍👩‍👧‍👦 🙂🙃 ❤️",
    "e\u0301 combined, zero\u200bwidth, \u202eturned\u202c",
    "null\x00byte, bell\x07, line\u2028separator",
    "# Heading\n\n1. one\n2. two\n\n```python\nprint('x')\n```\n* a\n* b",
    "<b>tags</b> & entities &amp; [links](http://example.org)",
    "the same the same the same the same the same",
    "word " * 2000,
    "x" * 20_000,
)


def check_labeling_function(function: LabelingFunction, pairs: Sequence[tuple[str, str, str]] | None = None) -> None:
    """Try a labeling function on odd texts, in both orders.

    It has to vote +1, -1 or 0 once per pair, say the opposite (or abstain again) when the responses change places,
    abstain where they are equal, say the same when asked again, and survive being sent to another process.

    Parameters
    ----------
    function
        Built in or a user's own.
    pairs
        ``(prompt, response, response)`` to try beside the odd texts.

    Raises
    ------
    DataError
        With everything that is wrong, and an example of each.
    """
    triples = [("What is it?", one, other) for i, one in enumerate(ODD_TEXTS) for other in ODD_TEXTS[i:]]
    triples += [("", "yes", "no, not at all"), ("word " * 2000, "yes", "yes")]
    triples += list(pairs or ())
    batch = _batch(triples)
    turned = Batch(batch.texts, batch.second, batch.first)
    votes, other = function.votes(batch), function.votes(turned)
    wrong = [
        _example("does not say the opposite when the responses change places", votes != -other, triples, votes, other),
        _example("votes on equal responses", (votes != 0) & _equal(triples), triples, votes, other),
        _example("says something else when asked again", votes != function.votes(batch), triples, votes, other),
        _not_sent(function, batch, votes),
    ]
    told = [each for each in wrong if each]
    if told:
        raise DataError(
            "; ".join(told),
            where=f"labeling function {function.name}",
            expected="a vote that depends on the two responses, not on their order",
            remedy="compare a number of each response (feature_function): that is so by itself",
        )


def check_order(function: LabelingFunction, batch: Batch) -> None:
    """Try a function on real pairs in both orders.

    Raises
    ------
    DataError
        If it does not say the opposite: it then looks at the order, or at something else than the two responses.
    """
    votes, other = function.votes(batch), function.votes(Batch(batch.texts, batch.second, batch.first))
    bad = votes != -other
    if bad.any():
        raise DataError(
            "it does not say the opposite when the responses change places",
            where=f"labeling function {function.name}",
            expected="a vote that depends on the two responses, not on their order or on anything else",
            got=f"{int(bad.sum())} of {len(bad)} pairs, such as {int(votes[bad][0])} and then {int(other[bad][0])}",
            remedy="compare a number of each response (feature_function): that is right by itself",
        )


def _batch(triples: Sequence[tuple[str, str, str]]) -> Batch:
    """Gather each prompt's distinct responses, so that each is looked at once."""
    by_prompt: dict[str, dict[str, int]] = {}
    for prompt, *both in triples:
        own = by_prompt.setdefault(prompt, {})
        for text in both:
            own.setdefault(text, len(own))
    texts = Texts.of(list(by_prompt), [list(own) for own in by_prompt.values()])
    begin = dict(zip(by_prompt, np.cumsum([0, *map(len, by_prompt.values())]).tolist(), strict=False))
    sides = (np.array([begin[t[0]] + by_prompt[t[0]][t[side]] for t in triples]) for side in (1, 2))
    return Batch(texts, *sides)


def _equal(triples: Sequence[tuple[str, str, str]]) -> np.ndarray:
    return np.array([one == other for _, one, other in triples])


def _example(
    what: str, bad: np.ndarray, triples: Sequence[tuple[str, str, str]], votes: np.ndarray, other: np.ndarray
) -> str | None:
    if not bad.any():
        return None
    at = int(np.flatnonzero(bad)[0])
    _, one, two = triples[at]
    said = f"{int(votes[at])}, and {int(other[at])} in the other order"
    return f"{what} ({int(bad.sum())} times, such as {one[:30]!r} against {two[:30]!r}: {said})"


def _not_sent(function: LabelingFunction, batch: Batch, votes: np.ndarray) -> str | None:
    try:
        sent = pickle.loads(pickle.dumps(function))
    except Exception as error:
        return f"cannot be sent to another process ({error})"
    return None if np.array_equal(sent.votes(batch), votes) else "says something else in another process"
