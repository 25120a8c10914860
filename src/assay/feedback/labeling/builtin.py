"""The features that come with the package, and the labeling functions that compare them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.errors import ConfigError
from assay.feedback.labeling import patterns
from assay.feedback.labeling.features import Feature, Window
from assay.feedback.labeling.functions import FeatureFunction

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_TOKEN = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)|\n{2,}")
_WORDS_OF_A_SENTENCE = 3
_GRAM = 3


def characters(column: pa.Array) -> pa.Array:
    """Return the number of characters."""
    return pc.utf8_length(column)


def whole_numbers(column: pa.Array) -> pa.Array:
    r"""Return how many whole numbers stand in the text: runs of digits between word bounds."""
    return pc.count_substring_regex(column, r"\b\d+\b")


def reading_ease(text: str) -> float:
    r"""Return Flesch's reading ease, ``206.835 - 1.015 words/sentences - 84.6 syllables/words`` (Flesch 1948).

    Syllables are hyphenation points (pyphen, American English) plus one; a sentence ends at ``.``, ``!``, ``?`` or an
    empty line, and has three words or more. NaN where there is no word.
    """
    words = _WORD.findall(text)
    if not words:
        return np.nan
    sentences = sum(len(_WORD.findall(part)) >= _WORDS_OF_A_SENTENCE for part in _SENTENCE_END.split(text))
    syllables = sum(_syllables(word.lower()) for word in words)
    return 206.835 - 1.015 * len(words) / max(sentences, 1) - 84.6 * syllables / len(words)


@lru_cache(maxsize=200_000)
def _syllables(word: str) -> int:
    return len(_hyphenation().positions(word)) + 1


@cache
def _hyphenation() -> Any:
    import pyphen

    return pyphen.Pyphen(lang="en_US")


def lexical_diversity(text: str) -> float:
    """Return distinct words over words, lower-cased (type-token ratio); NaN where there is no word."""
    words = [word.lower() for word in _TOKEN.findall(text)]
    return len(set(words)) / len(words) if words else np.nan


def sentiment(text: str) -> float:
    """Return VADER's compound sentiment, -1 to 1 (Hutto and Gilbert 2014)."""
    return float(_vader().polarity_scores(text)["compound"])


@cache
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def offensive_words(text: str) -> float:
    """Return how many distinct offensive words a maintained list finds (glin-profanity, English)."""
    found = _profanity().check_profanity(text)
    return float(len({word.lower() for word in found["profane_words"]}))


@cache
def _profanity() -> Any:
    from glin_profanity import Filter

    return Filter({"languages": ["english"]})


def prompt_overlap(text: str, prompt: str) -> float:
    """Return the share of the prompt's distinct words of four letters or more that the response takes up."""
    asked = {word.lower() for word in _TOKEN.findall(prompt) if len(word) > 3}
    return len(asked & {word.lower() for word in _TOKEN.findall(text)}) / len(asked) if asked else np.nan


def repetition(text: str) -> float:
    """Return the share of three-word runs that occurred before; 0 where there are fewer than two runs."""
    words = [word.lower() for word in _TOKEN.findall(text)]
    runs = Counter(zip(*(words[i:] for i in range(_GRAM)), strict=False))
    return 1.0 - len(runs) / max(runs.total(), 1) if runs.total() > 1 else 0.0


def asks_back(column: pa.Array) -> pa.Array:
    """Return 1 where the last thing said is a question."""
    return pc.match_substring_regex(column, r"\?[\s\"')\]]*$").cast(pa.int64())


def structure(column: pa.Array) -> pa.Array:
    """Return how many lines are list items, headings or code fences."""
    # the search goes on after each match as if a text began there, so a match takes its line to the end
    return pc.count_substring_regex(column, r"(?m)^[ \t]*(?:[-*•][ \t]|\d+[.)][ \t]|#{1,6}[ \t]|```)[^\n]*")


def from_package(name: str) -> str:
    """Return the version of a package that a feature relies on, or say that it is missing."""
    return f"{name} {version(name)}"


def _feature(
    name: str, compute: Callable[..., Any], takes: Any = "text", package: str = "", **settings: Any
) -> Feature:
    return Feature(name, compute, takes, from_package(package) if package else "1", settings)


def features() -> dict[str, Feature]:
    """Return the features by name."""
    made = [
        _feature("length", characters, "column"),
        _feature("reading ease", reading_ease, package="pyphen"),
        _feature("lexical diversity", lexical_diversity),
        _feature("sentiment", sentiment, package="vaderSentiment"),
        _feature("numbers", whole_numbers, "column"),
        _feature("phrases", patterns.good_less_bad, "column", good=patterns.GOOD, bad=patterns.BAD),
        _feature("offensive words", offensive_words, package="glin-profanity"),
        _feature("prompt overlap", prompt_overlap, "text and prompt"),
        _feature("refusal", patterns.times_found, "column", patterns=patterns.REFUSALS),
        _feature("repetition", repetition),
        _feature("asks back", asks_back, "column"),
        _feature("structure", structure, "column"),
    ]
    return {feature.name: feature for feature in made}


#: name -> (least, most, prefers): windows of the published functions where there are such, our own elsewhere.
DEFAULTS: dict[str, tuple[float, float, str]] = {
    "length": (20, np.inf, "more"),
    "reading ease": (5, 50, "less"),
    "lexical diversity": (0.1, np.inf, "less"),
    "sentiment": (0.05, np.inf, "more"),
    "numbers": (1, np.inf, "more"),
    "phrases": (1, np.inf, "more"),
    "offensive words": (1, np.inf, "less"),
    "prompt overlap": (0.1, np.inf, "more"),
    "refusal": (1, np.inf, "less"),
    "repetition": (0.05, np.inf, "less"),
    "asks back": (1, np.inf, "less"),
    "structure": (2, np.inf, "more"),
}

_PUBLISHED = ("length", "reading ease", "lexical diversity", "sentiment", "numbers", "phrases")

#: The sets of functions of Hauptvogel et al. 2024, which differ in the least difference of numbers; and all of ours.
PRESETS: dict[str, dict[str, tuple[float, float, str]]] = {
    "general": DEFAULTS,
    "hh": {name: DEFAULTS[name] for name in (*_PUBLISHED, "offensive words")} | {"numbers": (3, np.inf, "more")},
    "mt_bench": {name: DEFAULTS[name] for name in _PUBLISHED},
    "ultrafeedback_binarized": {name: DEFAULTS[name] for name in _PUBLISHED},
    "ultrafeedback_preferences": {name: DEFAULTS[name] for name in _PUBLISHED} | {"numbers": (2, np.inf, "more")},
}


def preset(name: str) -> list[FeatureFunction]:
    """Return the labeling functions of a preset.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError("no such preset", where="presets", expected=", ".join(PRESETS), got=name)
    known = features()
    return [function_of(known[each], *window) for each, window in PRESETS[name].items()]


def function_of(feature: Feature, least: float, most: float, prefers: str) -> FeatureFunction:
    """Return the labeling function that compares a feature."""
    return FeatureFunction(feature, Window(least, most), "less" if prefers == "less" else "more")


def similarity(
    encode: Callable[[Sequence[str]], np.ndarray], *, name: str = "similarity", version: str = "1"
) -> Feature:
    """Return the feature "cosine of response and prompt" by an encoder: texts in, vectors ``[n, d]`` out."""
    return Feature(name, Cosine(encode), "texts and prompts", version, kept=False, here=True)


class Cosine:
    """Cosine between the vectors of texts and of their prompts, each distinct prompt encoded once."""

    def __init__(self, encode: Callable[[Sequence[str]], np.ndarray]) -> None:
        self.encode = encode

    def __call__(self, texts: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
        """Return one number per text, float64 ``[N]``."""
        distinct, of = np.unique(np.asarray(prompts, object), return_inverse=True)
        one = np.asarray(self.encode(list(texts)), np.float64)
        other = np.asarray(self.encode(distinct.tolist()), np.float64)[of.ravel()]
        size = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        return np.divide((one * other).sum(axis=1), size, out=np.full(len(one), np.nan), where=size > 0)


def by_scorer(
    score: Callable[[Sequence[str], Sequence[str]], np.ndarray],
    *,
    name: str = "scorer",
    least: float = 0.0,
    most: float = np.inf,
) -> FeatureFunction:
    """Return the function that prefers what a scorer gives more: prompts and responses in, scores ``[n]`` out."""
    return FeatureFunction(
        Feature(name, Swapped(score), "texts and prompts", kept=False, here=True), Window(least, most)
    )


class Swapped:
    """Calls with prompts before responses what features call with responses first."""

    def __init__(self, score: Callable[[Sequence[str], Sequence[str]], np.ndarray]) -> None:
        self.score = score

    def __call__(self, texts: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
        """Return the scores."""
        return self.score(prompts, texts)
