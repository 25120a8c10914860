"""A file of labeling functions as users write them."""

from __future__ import annotations

from assay.feedback.labeling import ABSTAIN, FIRST, SECOND, Pair, feature_function, labeling_function

MADE: list[str] = []


def load_words() -> set[str]:
    MADE.append("words")
    return {"certainly", "gladly"}


@labeling_function(resources={"words": load_words})
def polite(pair: Pair, words: set[str]) -> int:
    first, second = (any(word in text.lower() for word in words) for text in (pair.first, pair.second))
    return FIRST if first and not second else SECOND if second and not first else ABSTAIN


@labeling_function(vectorised=True)
def shorter(prompts: list[str], first: list[str], second: list[str]) -> list[int]:
    return [(len(b) > len(a)) - (len(b) < len(a)) for a, b in zip(first, second, strict=True)]


@feature_function(least=2)
def headings(text: str) -> int:
    return sum(line.startswith("#") for line in text.splitlines())


@feature_function(takes="text and prompt", name="named again")
def echo(text: str, prompt: str) -> bool:
    return bool(prompt) and prompt in text


@labeling_function
def likes_the_first_place(pair: Pair) -> int:
    return FIRST


@labeling_function
def reads_the_label(pair: Pair) -> int:
    return int(pair.label)
