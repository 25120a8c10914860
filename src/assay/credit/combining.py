"""Several rewards as one, and what length and an end cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.credit.answers import Answers, Rewards
from assay.credit.links import Link, Stateless
from assay.credit.mixing import Multiplier, capped_mix, safe_mix
from assay.credit.redistribution import CreditError


@dataclass
class Weighted:
    """Several links, each with a weight, or one that changes with the cycle.

    Attributes
    ----------
    links
        (link, weight or function of the cycle).
    """

    links: list[tuple[Link, float | Callable[[int], float]]]

    def __call__(self, answers: Answers) -> Rewards:
        """Add up the links' rewards."""
        found = Rewards(np.zeros(int(answers.offsets[-1])))
        for link, weight in self.links:
            own = link(answers)
            factor = weight(answers.cycle) if callable(weight) else weight
            # a part of weight 0 that has no number is no reason to leave a response out
            found.tokens = found.tokens + factor * own.tokens if factor else found.tokens
            if own.critic_offset is not None and factor:
                before = 0.0 if found.critic_offset is None else found.critic_offset
                found.critic_offset = before + factor * own.critic_offset
            found.parts |= own.parts
        return found

    def state(self) -> dict[str, Any]:
        """Return the states of the links."""
        return {str(number): link.state() for number, (link, _) in enumerate(self.links)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the links."""
        for number, (link, _) in enumerate(self.links):
            link.restore(state[str(number)])


@dataclass
class Capped:
    """RLLR's mix: the label's reward up to a cap, and the rationale's (`assay.credit.capped_mix`).

    What the label's whole score has beyond the cap, in its own units, is taken off its last token.
    """

    label: Link
    rationale: Link
    cap: float

    def __call__(self, answers: Answers) -> Rewards:
        """Mix both."""
        label, rationale = self.label(answers), self.rationale(answers)
        whole = next(iter(label.parts.values()))
        beyond = whole - capped_mix(whole, np.zeros_like(whole), self.cap)
        tokens = label.tokens - answers.at_the_end(beyond) + rationale.tokens
        offsets = [own.critic_offset for own in (label, rationale) if own.critic_offset is not None]
        parts = {**label.parts, **rationale.parts, "beyond the cap": beyond}
        return Rewards(tokens, parts, sum(offsets) if offsets else None)  # type: ignore[arg-type]

    def state(self) -> dict[str, Any]:
        """Return the states of both."""
        return {"label": self.label.state(), "rationale": self.rationale.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore both."""
        self.label.restore(state["label"])
        self.rationale.restore(state["rationale"])


@dataclass
class Safe:
    """A reward against a cost that a multiplier holds within its budget (`assay.credit.safe_mix`).

    The multiplier moves after each cycle by the mean cost of its responses, so rewards of one cycle share one value.
    """

    reward: Link
    cost: Link
    multiplier: Multiplier = field(default_factory=lambda: Multiplier(0.0))

    def __call__(self, answers: Answers) -> Rewards:
        """Mix both, and move the multiplier."""
        reward, cost = self.reward(answers), self.cost(answers)
        value = self.multiplier.value
        found = Rewards(safe_mix(reward.tokens, cost.tokens, value), {**reward.parts, **cost.parts})
        if reward.critic_offset is not None and cost.critic_offset is not None:
            found.critic_offset = safe_mix(reward.critic_offset, cost.critic_offset, value)
        whole = next(iter(cost.parts.values()))
        if np.isfinite(whole).any():
            self.multiplier.update(whole[np.isfinite(whole)])
        found.parts["multiplier"] = np.full(len(answers), value)
        return found

    def state(self) -> dict[str, Any]:
        """Return the multiplier, and the states of both."""
        return {"value": self.multiplier.value, "reward": self.reward.state(), "cost": self.cost.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore all."""
        self.multiplier.value = float(state["value"])
        self.reward.restore(state["reward"])
        self.cost.restore(state["cost"])


@dataclass
class Routed:
    """Each response is scored by exactly one link, which a column of its prompt names (Omni-Thinker, Li et al. 2025).

    Attributes
    ----------
    column
        Of the data.
    links
        Value of the column -> link.
    """

    column: str
    links: Mapping[str, Link]

    def __call__(self, answers: Answers) -> Rewards:
        """Score each by its own.

        Raises
        ------
        CreditError
            If the column is not there, or names no link.
        """
        if self.column not in answers.columns:
            raise CreditError("the data have no such column", where=self.column, got=", ".join(answers.columns))
        names = [str(value) for value in answers.columns[self.column]]
        unknown = sorted(set(names) - set(self.links))
        if unknown:
            raise CreditError("no reward is there for a task", expected=", ".join(self.links), got=", ".join(unknown))
        found = Rewards(np.zeros(int(answers.offsets[-1])))
        for name, link in self.links.items():
            rows = np.flatnonzero(np.array(names) == name)
            if len(rows):
                own = link(subset(answers, rows))
                places = np.concatenate([np.arange(answers.offsets[row], answers.offsets[row + 1]) for row in rows])
                found.tokens[places] = own.tokens
                if own.critic_offset is not None:
                    if found.critic_offset is None:
                        found.critic_offset = np.zeros_like(found.tokens)
                    found.critic_offset[places] = own.critic_offset
                for part, values in own.parts.items():
                    found.parts.setdefault(part, np.full(len(answers), np.nan))[rows] = values
        return found

    def state(self) -> dict[str, Any]:
        """Return the states of the links."""
        return {name: link.state() for name, link in self.links.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the links."""
        for name, link in self.links.items():
            link.restore(state[name])


@dataclass
class Length(Stateless):
    """What length and an end cost: so much per token beyond a limit, and once where a response did not end.

    Attributes
    ----------
    per_token
        Taken off for each token beyond ``free``.
    free
        Tokens that cost nothing.
    no_end
        Taken off where a response was cut at the most tokens it may have.
    """

    per_token: float = 0.0
    free: int = 0
    no_end: float = 0.0

    def __call__(self, answers: Answers) -> Rewards:
        """Return what is taken off."""
        beyond = np.maximum(answers.lengths - self.free, 0)
        found = -(self.per_token * beyond + self.no_end * ~answers.ended)
        return Rewards(answers.at_the_end(found), {"length and end": found})


def subset(answers: Answers, rows: np.ndarray) -> Answers:
    """Return some responses, their groups counted anew from 0."""
    chosen = [int(row) for row in rows]
    return Answers(
        [answers.prompts[row] for row in chosen],
        [answers.texts[row] for row in chosen],
        [answers.sequences[row] for row in chosen],
        answers.starts[rows],
        answers.ended[rows],
        np.unique(answers.groups[rows], return_inverse=True)[1].astype(np.int64),
        answers.tokenizer,
        {name: [values[row] for row in chosen] for name, values in answers.columns.items()},
        answers.cycle,
    )
