"""In which order to learn tasks: what learning one does to another (Omni-Thinker, Li et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

#: Tasks up to which the best order is found exactly: the work doubles with each.
MOST_TASKS = 12


def backward_transfer(
    tasks: Sequence[str], before: Mapping[str, float], after: Mapping[str, Mapping[str, float]]
) -> np.ndarray:
    r"""Return what learning task i did to task j, float64 ``[K, K]``.

    .. math:: \mathrm{BWT}[j, i] = a_j(\text{after } i) - a_j(\text{before})

    Parameters
    ----------
    tasks
        Names, K of them: rows and columns in this order.
    before
        Task -> accuracy of the policy that all begin with.
    after
        Task that was learned -> task -> accuracy.
    """
    return np.array([[after[learned][task] - before[task] for learned in tasks] for task in tasks])


def order_value(transfer: np.ndarray, order: Sequence[int]) -> float:
    """Return what an order promises: the sum of transfer to each task from all that are learned after it."""
    return float(sum(transfer[j, i] for place, j in enumerate(order) for i in order[place + 1 :]))


def best_order(transfer: np.ndarray) -> list[int]:
    """Return an order of tasks with the highest `order_value`; of several the one that comes first by number.

    Exact, over all sets of tasks that may have been learned already; real accuracy after such an order is only loosely
    foretold by it.

    Parameters
    ----------
    transfer
        ``[K, K]`` of `backward_transfer`; its diagonal does not matter.

    Raises
    ------
    ValueError
        If it is not square, holds what is no number, or there are more than 12 tasks.
    """
    count = len(transfer)
    if transfer.shape != (count, count) or not np.isfinite(transfer).all():
        raise ValueError(f"transfer has the shape {transfer.shape}; expected finite numbers, square")
    if count > MOST_TASKS:
        raise ValueError(f"{count} tasks; expected {MOST_TASKS} at most")
    # value and order of the best way to learn what is left, by what was learned before: each task that comes next is
    # hurt or helped by all that are left after it
    full = (1 << count) - 1
    best: dict[int, tuple[float, tuple[int, ...]]] = {full: (0.0, ())}
    for learned in sorted(range(full), key=lambda own: -own.bit_count()):
        found: tuple[float, tuple[int, ...]] | None = None
        for task in range(count):
            if learned >> task & 1:
                continue
            left = [other for other in range(count) if other != task and not learned >> other & 1]
            value, behind = best[learned | 1 << task]
            value += float(transfer[task, left].sum())
            if found is None or value > found[0] + 1e-12:
                found = (value, (task, *behind))
        assert found is not None
        best[learned] = found
    return list(best[0][1])
