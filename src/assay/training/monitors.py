"""What is watched while a policy learns from rewards, and what is worth a warning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from assay.credit.answers import Answers, Rewards

_BOUNDS = ("lowest reward", "highest reward")


class Monitor:
    """Adds up sums and counts over the steps of a cycle; tensors are read only when asked for."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, list[tuple[Any, Any]]] = defaultdict(list)

    def add(self, name: str, value: Tensor | float, count: Tensor | float | None = None) -> None:
        """Add a value; with a count a mean is reported, else a sum."""
        self._sums[name].append((value, count))

    def read(self) -> dict[str, float]:
        """Return sums and means since the last time."""
        found = {}
        for name, entries in self._sums.items():
            total = sum(float(value) for value, _ in entries)
            counts = [float(count) for _, count in entries if count is not None]
            found[name] = total / max(sum(counts), 1e-30) if counts else total
        self._sums.clear()
        return found


def mean_of_known(values: Any) -> float:
    """Return the mean of what is a number; 0 where nothing is would be a reward, so then there is none: NaN."""
    found = np.asarray(values, np.float64)
    known = found[np.isfinite(found)]
    return float(known.mean()) if len(known) else float("nan")


def parts_of(
    answers: Answers, rewards: Rewards, kept: np.ndarray, dropped: dict[str, int], of_tokens: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return what a cycle's responses are like: rewards, parts, length, divergence, entropy, and what was lost.

    Parameters
    ----------
    answers, rewards
        Of the cycle.
    kept, dropped
        Which responses count, and counts of why others do not.
    of_tokens
        ``old``, ``reference``, ``former``, ``returns`` and ``advantages`` of tokens, where they are there.
    """
    totals = answers.sums(rewards.tokens)
    told = {
        "reward": mean_of_known(totals),
        "length": float(answers.lengths.mean()),
        "cut": float(1.0 - answers.ended.mean()),
        "empty": float(np.mean([not text.strip() for text in answers.texts])),
        "learned from": float(kept.mean()),
    }
    known = totals[np.isfinite(totals)]
    if len(known):
        told |= {"lowest reward": float(known.min()), "highest reward": float(known.max())}
    for name, values in rewards.parts.items():
        if np.isfinite(values).any():
            told[f"part: {name}"] = mean_of_known(values)
    told |= {f"left out: {name}": float(count) for name, count in dropped.items() if count}
    if "old" in of_tokens:
        # an unbiased estimate at the temperature of sampling
        told["entropy"] = float(-of_tokens["old"].mean())
    if "reference" in of_tokens:
        told["divergence"] = float(answers.sums(of_tokens["old"] - of_tokens["reference"]).mean())
    counted = np.repeat(kept, answers.lengths)
    if counted.any():
        told["spread of advantages"] = float(of_tokens["advantages"][counted].std())
        if "returns" in of_tokens:
            returns = of_tokens["returns"][counted]
            missed = (returns - of_tokens["former"][counted]).var()
            told["explained by the critic"] = float(1.0 - missed / max(returns.var(), 1e-12))
    return told


def warnings_of(history: Sequence[dict[str, Any]]) -> list[str]:
    """Say what in the curves of a run is worth a look.

    A reward that was the same for all responses, length that more than doubled, responses most of which became empty, a
    reward that rises while gold falls, and entropy that fell to a tenth. The latter compare the mean of the first and
    the last fifth of the cycles, those that have it, and nothing is said of fewer than ten.
    """
    found = []
    bounds = [entry[name] for entry in history for name in _BOUNDS if entry.get(name) is not None]
    if bounds and max(bounds) - min(bounds) <= 1e-9 * max(map(abs, bounds)):
        found.append(f"all responses had the same reward, {bounds[0]:g}: it tells nothing to learn from")
    if len(history) < 10:
        return found
    fifth = max(len(history) // 5, 2)

    def ends(name: str) -> tuple[float, float] | None:
        sides = [
            [float(entry[name]) for entry in side if entry.get(name) is not None]
            for side in (history[:fifth], history[-fifth:])
        ]
        return (float(np.mean(sides[0])), float(np.mean(sides[1]))) if all(sides) else None

    if not any(entry.get("learned from", 1.0) for entry in history[-fifth:]):
        found.append("nothing was learned from any more: all responses were left out (see the counts in history.jsonl)")
    length, empty, reward, gold, entropy = (ends(name) for name in ("length", "empty", "reward", "gold", "entropy"))
    if length is not None and length[1] > 2 * length[0]:
        found.append(f"responses grew from {length[0]:.0f} to {length[1]:.0f} tokens")
    if empty is not None and empty[0] < 0.5 < empty[1]:
        found.append(
            f"{100 * empty[1]:.0f} % of the responses are empty, {100 * empty[0]:.0f} % at first: the reward prefers "
            "saying nothing, which a reward model that never saw such responses may"
        )
    if reward is not None and gold is not None and reward[1] > reward[0] and gold[1] < gold[0]:
        rise = f"the reward rose from {reward[0]:.3f} to {reward[1]:.3f}"
        found.append(f"{rise} while gold fell from {gold[0]:.3f} to {gold[1]:.3f}")
    if entropy is not None and entropy[0] > 0 and entropy[1] < 0.1 * entropy[0]:
        found.append(
            f"entropy fell from {entropy[0]:.2f} to {entropy[1]:.2f} nats a token: responses are nearly all one"
        )
    return found
