"""Judges as labeling functions: one voter for each principle and each criterion."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.errors import ConfigError
from assay.feedback.labeling import Feature, FeatureFunction, LabelingFunction, MarginFunction, Window
from assay.feedback.store import cache_folder
from assay.workflows.label_settings import JudgeAsking

if TYPE_CHECKING:
    from assay.scorers.judges import Judge

#: Log-odds by which the answers to a yes-or-no question must differ.
LEAST_DIFFERENCE = 0.5


@dataclass
class Voters:
    """A judge, the functions that ask it, and what became of its two orders.

    Attributes
    ----------
    judge
        Who is asked.
    functions
        One per rule.
    orders
        Principle -> counts of `TwoOrders`.
    """

    judge: Judge
    functions: list[LabelingFunction] = field(default_factory=list)
    orders: dict[str, Counter[str]] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """Return what was asked, what it cost, and how often a place decided, for metrics.json."""
        return {"name": self.judge.name, **self.judge.costs(), "orders": {k: dict(v) for k, v in self.orders.items()}}

    def notes(self) -> list[str]:
        """Return what a reader must know of the judge, in sentences."""
        told = []
        for name, counts in self.orders.items():
            places = {place: counts[f"always_the_{place}_place"] for place in ("first", "second")}
            answered = counts["pairs"] - counts["unanswered"]
            if answered and sum(places.values()) > answered / 2:
                place = max(places, key=lambda each: places[each])
                told.append(
                    f"{name!r}: of {answered:,} pairs asked in both orders the judge took the {place} place twice "
                    f"in {places[place]:,}; it abstains there"
                )
            if counts["unanswered"]:
                told.append(
                    f"{name!r}: {counts['unanswered']:,} of {counts['pairs']:,} pairs got no answer; it abstains"
                )
        return told


def voters(settings: JudgeAsking) -> Voters:
    """Return the voters that settings describe.

    Raises
    ------
    ConfigError, ModelError
        If rules or model cannot be read.
    """
    # torch takes seconds to import, and most labelling needs none of it
    from assay.scorers.judges import PRINCIPLES, Rules

    rules = Rules.read(settings.rules) if settings.rules is not None else Rules(PRINCIPLES, {})
    made = Voters(judge_of(settings))
    for name, principle in rules.principles.items():
        made.functions.append(MarginFunction(f"judge {name}", _Comparing(made, f"judge {name}", principle)))
    for name, criterion in rules.criteria.items():
        feature = Feature(f"judge {name}", _Checking(made.judge, criterion), "texts and prompts", kept=False, here=True)
        made.functions.append(FeatureFunction(feature, Window(LEAST_DIFFERENCE)))
    return made


def judge_of(settings: JudgeAsking) -> Judge:
    """Return the judge that settings name."""
    from assay.scorers.judges import LocalJudge, RemoteJudge

    if settings.local is not None:
        return LocalJudge(settings.local, token_budget=settings.token_budget)
    if settings.url is None or settings.model is None:
        raise ConfigError("a judge is a model or an address", where="judge", expected="local, or url and model")
    cache = Path(settings.cache) if settings.cache else cache_folder(None) / "judges.sqlite"
    return RemoteJudge(
        settings.url,
        settings.model,
        key_variable=settings.key_variable,
        cache=cache,
        parallel=settings.parallel,
        tries=settings.tries,
        price_in=settings.price_in,
        price_out=settings.price_out,
        max_tokens=settings.max_tokens,
    )


@dataclass
class _Comparing:
    """Margins by a principle; keeps count of what the two orders said."""

    voters: Voters
    name: str
    principle: str

    def __call__(self, prompts: list[str], first: list[str], second: list[str]) -> np.ndarray:
        from assay.scorers.judges import in_both_orders

        found = in_both_orders(self.voters.judge, prompts, first, second, self.principle)
        self.voters.orders.setdefault(self.name, Counter()).update(found.counts())
        return found.margins()


@dataclass
class _Checking:
    """How far responses meet a criterion."""

    judge: Judge
    criterion: str

    def __call__(self, texts: list[str], prompts: list[str]) -> np.ndarray:
        from assay.scorers.judges import met

        return met(self.judge, prompts, texts, self.criterion)
