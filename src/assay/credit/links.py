"""Links of a chain of rewards: each takes what a policy wrote and gives rewards of tokens, with its share by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from assay.credit.answers import Answers, Rewards
from assay.credit.redistribution import CreditError


class Link(Protocol):
    """Part of a chain."""

    def __call__(self, answers: Answers) -> Rewards:
        """Return rewards of tokens; NaN where there is none."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold: plain values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint held."""
        ...


class Stateless:
    """For links that remember nothing."""

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take nothing over."""


@dataclass
class Standard:
    """Running mean and deviation of whole scores, by which a scorer (never a token's reward) is brought to scale.

    Attributes
    ----------
    count, mean, squares
        Scores so far, their mean, and the sum of squared differences from it (Welford).
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def see(self, scores: np.ndarray) -> None:
        """Take in what was scored; what is no number is not."""
        known = scores[np.isfinite(scores)].astype(np.float64)
        if not len(known):
            return
        total, gap = self.count + len(known), known.mean() - self.mean
        self.squares += float(((known - known.mean()) ** 2).sum() + gap**2 * self.count * len(known) / total)
        self.mean += float(gap * len(known) / total)
        self.count = total

    @property
    def deviation(self) -> float:
        """Standard deviation; 1 while scores do not differ."""
        found = (self.squares / self.count) ** 0.5 if self.count else 0.0
        return found if found > 1e-12 else 1.0

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return scores minus the mean over the deviation."""
        return (scores - self.mean) / self.deviation


class Standardised:
    """For links that may bring their scores to scale."""

    standard: Standard | None

    def state(self) -> dict[str, Any]:
        """Return the running moments."""
        return {} if self.standard is None else dict(vars(self.standard))

    def restore(self, state: dict[str, Any]) -> None:
        """Take the running moments over."""
        if self.standard is not None:
            self.standard = Standard(**state)


@dataclass
class AtTheEnd(Standardised):
    """One reward of a whole response, at its last token.

    Attributes
    ----------
    name
        For reports.
    score
        Gives ``[n]``; NaN or None where it has no reward.
    standard
        Brings scores to scale; None: as they are.
    """

    name: str
    score: Callable[[Answers], Any]
    standard: Standard | None = None

    def __call__(self, answers: Answers) -> Rewards:
        """Score the responses."""
        found = numbers(self.score(answers), len(answers), self.name)
        if self.standard is not None:
            self.standard.see(found)
        used = found if self.standard is None else self.standard(found)
        return Rewards(answers.at_the_end(used), {self.name: found})


def numbers(given: Any, count: int, name: str) -> np.ndarray:
    """Return rewards as float64 ``[n]``, NaN for None.

    Raises
    ------
    CreditError
        If there are not as many as responses, or one is no number.
    """
    try:
        if isinstance(given, (str, bytes, Mapping, Set)):  # which have no order of responses, or are no numbers
            raise TypeError(f"a {type(given).__name__} came, where a list is expected")
        found = np.array([np.nan if value is None else float(value) for value in given], np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise CreditError(
            "a reward is no number", where=name, expected="a number for each response, or None", got=str(error)
        ) from error
    if len(found) != count:
        raise CreditError(
            "a reward came for another number of responses", where=name, expected=str(count), got=str(len(found))
        )
    return found
