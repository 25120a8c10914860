"""The first prototypes of a head, from few judgements: which responses build them, and which probe them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.objectives.prototypes import band, effective_number, fitted_log_kappa, mixture_weights, squared_distances
from assay.scorers.kernel import KernelHead
from assay.scorers.prototypes import PrototypeHead
from assay.training.records import TrainingRecords

#: Pairs of responses that probe prototypes, at most.
PROBE_PAIRS = 64
#: Below this many judgements there is nothing to build prototypes from.
FEWEST_PAIRS = 20


@dataclass(frozen=True)
class Chosen:
    """Which texts build prototypes, and which are kept aside to probe them.

    Attributes
    ----------
    chosen, rejected
        ``[K, N]`` texts, each row those of one prototype.
    probes
        ``[P]`` texts of other records, chosen and rejected ones.
    pairs, responses
        How many judgements and judged responses there are in all.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    probes: np.ndarray
    pairs: int
    responses: int

    @property
    def texts(self) -> np.ndarray:
        """All texts whose vectors are looked at."""
        return np.unique(np.concatenate([self.chosen.ravel(), self.rejected.ravel(), self.probes]))

    def rows_among(self, texts: np.ndarray) -> Chosen:
        """Return the same with the place of each text among the sorted ``texts``."""
        chosen, rejected, probes = (np.searchsorted(texts, own) for own in (self.chosen, self.rejected, self.probes))
        return replace(self, chosen=chosen, rejected=rejected, probes=probes)


def choose(head: PrototypeHead | KernelHead, data: TrainingRecords, member: int) -> Chosen:
    """Draw the responses that build and probe the prototypes of a member, by the seed of the head.

    Of each class ``min(per_class, cap // 2, pairs // (2 * builders))`` prototypes, each the mean of ``builders``
    responses, from at most half of the records; at most 64 pairs of the others are probes. One pair of each record, as
    long as there are records enough.
    """
    classes = data.classes_of(member)
    record = owners_of(data)
    random, builders = np.random.default_rng([head.seed, 7]), head.builders
    sides = [{int(r): random.permutation(texts) for r, texts in _by_record(record, classes == own)} for own in (1, -1)]
    both = random.permutation(sorted(sides[0].keys() & sides[1].keys()))
    pairs = int(_decided(data, member).sum())
    wanted = min(head.per_class, head.cap // 2, pairs // (2 * builders)) * builders
    building, probing = both[: min(wanted, len(both) // 2)], both[min(wanted, len(both) // 2) :]
    built = [_in_turn(side, building, wanted) for side in sides]
    whole = min(len(texts) for texts in built) // builders
    chosen, rejected = (texts[: whole * builders].reshape(whole, builders) for texts in built)
    probes = np.concatenate([_in_turn(side, probing, PROBE_PAIRS) for side in sides])
    return Chosen(chosen, rejected, probes, pairs, int((classes != 0).sum()))


def _by_record(record: np.ndarray, mask: np.ndarray) -> list[tuple[int, np.ndarray]]:
    texts = np.flatnonzero(mask)
    names, starts = np.unique(record[texts], return_index=True)
    return list(zip(names.tolist(), np.split(texts, starts[1:]), strict=True)) if len(texts) else []


def _in_turn(texts_of: dict[int, np.ndarray], records: np.ndarray, wanted: int) -> np.ndarray:
    """Take texts of the records by turns, until there are enough or none is left."""
    longest = max((len(texts_of[r]) for r in records), default=0)
    taken = [texts_of[r][turn] for turn in range(longest) for r in records if turn < len(texts_of[r])]
    return np.array(taken[:wanted], np.int64)


def _decided(data: TrainingRecords, member: int) -> np.ndarray:
    weights = data.weights
    weight = weights if weights.ndim == 1 else weights[:, member]
    return (weight > 0) & (data.records.pairs.p != 0.5)


@torch.no_grad()
def begin(head: PrototypeHead | KernelHead, member: int, found: Chosen, h: Tensor, owners: np.ndarray) -> None:
    """Fill the bank of a member.

    Parameters
    ----------
    head
        Whose bank is filled.
    member
        Which one.
    found
        As `choose` gives it, with rows of ``h`` in place of texts.
    h
        ``[T, d]``: vectors in the space of the head.
    owners
        ``[T]``: which prompt each of them answers.
    """
    if len(found.chosen) == 0 or len(found.probes) == 0:
        return
    points = torch.cat([h[found.chosen].mean(dim=1), h[found.rejected].mean(dim=1)])
    probes, count = h[found.probes], len(points)
    if isinstance(head, KernelHead):
        head.begin(member, points, probes)
        return
    built = [*owners[found.chosen].tolist(), *owners[found.rejected].tolist()]
    if head.start == "random":
        drawn = torch.randn(points.shape, generator=torch.Generator().manual_seed(head.seed + member)).to(h.device)
        points, built = drawn * h.std(dim=0) + h.mean(dim=0), [[]] * count
    for row, point in enumerate(points):
        head.add(member, point, 1 if row < len(found.chosen) else -1, built[row])
    distances = squared_distances(probes, points, scaled=head.scaled)
    if not head.released:
        usable = torch.ones_like(distances, dtype=torch.bool)
        head.log_kappa[member] = fitted_log_kappa(distances, usable, max(count / 3, 1.0))
    head.threshold[member] = torch.quantile(distances.min(dim=-1).values, level_of(head, found))


def level_of(head: PrototypeHead, found: Chosen) -> float:
    """Return the quantile of probe distances that a new prototype must exceed: high enough for the room there is."""
    room = head.cap - 2 * len(found.chosen)
    return max(0.95, 1 - room / (2 * max(found.responses, 1)))


def begin_all(
    head: PrototypeHead | KernelHead, data: TrainingRecords, states_of: Callable[[np.ndarray], Tensor]
) -> None:
    """Fill the banks of all members; ``states_of`` gives the vectors ``[T, d]`` of some texts."""
    found = [choose(head, data, member) for member in range(len(head.points))]
    texts = np.unique(np.concatenate([each.texts for each in found]))
    if len(texts) == 0:
        return
    h = head.normed(states_of(texts).to(head.points.device))
    owners = owners_of(data)[texts]
    for member, each in enumerate(found):
        begin(head, member, each.rows_among(texts), h, owners)


def owners_of(data: TrainingRecords) -> np.ndarray:
    """Return the record that each text belongs to, int64 ``[texts]``."""
    return np.repeat(np.arange(len(data.texts)), data.texts)


@torch.no_grad()
def state_of_bank(
    head: PrototypeHead, member: int, data: TrainingRecords, states_of: Callable[[np.ndarray], Tensor]
) -> dict[str, Any]:
    """Measure the prototypes of a trained member on its probes, none of whose own prototypes count."""
    count, found = int(head.counts[member]), choose(head, data, member)
    told: dict[str, Any] = {
        "at_start": min(2 * len(found.chosen), count),
        "active": count,
        "added": max(count - 2 * len(found.chosen), 0),
        "cap": head.cap,
        "cap_reached": count >= head.cap,
        "kappa": head.kappas[member].item(),
        "omega": head.omega_now()[member].item(),
    }
    if count == 0 or len(found.probes) == 0:
        return told
    h = head.normed(states_of(found.probes).to(head.points.device))
    distances = squared_distances(h, head.points[member, :count].float(), scaled=head.scaled)
    owners = torch.from_numpy(owners_of(data)[found.probes]).to(h.device)
    usable = ~(head.owners[member, :count].unsqueeze(0) == owners.reshape(-1, 1, 1)).any(dim=-1)
    spread = effective_number(mixture_weights(distances, head.kappas[member].item(), usable)).median().item()
    low, high = (bound.item() for bound in band(head.counts[member : member + 1]))
    near = distances.masked_fill(~usable, float("inf")).min(dim=-1).values
    quantiles = np.quantile(near.cpu().numpy(), (0.05, 0.5, 0.95)).tolist()
    told |= {"effective_number": spread, "band": [low, high], "in_band": low <= spread <= high}
    told |= {"nearest_distance": dict(zip(("p5", "p50", "p95"), quantiles, strict=True))}
    if head.growth == "quantile":
        told |= {"threshold": head.threshold[member].item(), "threshold_level": level_of(head, found)}
    if head.growth == "imp":
        told["imp_bounds"] = head.bounds()[member].tolist()
    return told
