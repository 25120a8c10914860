"""Heads that compare a response with others: what fills their bank, what became of it, and whom a prototype is near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from assay.console import say
from assay.errors import DataError
from assay.feedback.records import prompt_text
from assay.scorers import RewardModel
from assay.scorers.kernel import KernelHead
from assay.scorers.prototypes import PrototypeHead
from assay.training.records import TrainingRecords
from assay.training.starting import FEWEST_PAIRS, begin_all, owners_of, state_of_bank

#: Training responses that are shown for each prototype, and characters of them.
EXAMPLES, EXCERPT = 3, 200

StatesOf = Callable[[np.ndarray], Tensor]


def refuse_few(settings: Any, learned: TrainingRecords) -> None:
    """Refuse to build prototypes from next to nothing.

    Raises
    ------
    DataError
        If there are fewer than 20 judgements, or none that prefers a response.
    """
    if settings.head.kind not in ("prototypes", "kernel"):
        return
    used = np.asarray(learned.weights > 0)
    if used.ndim > 1:  # by member
        used = np.asarray(used.any(axis=1))
    decided = used & (learned.records.pairs.p != 0.5)
    if used.sum() < FEWEST_PAIRS:
        raise DataError(
            f"--head {settings.head.kind} is built from the responses of judged pairs, and there are too few",
            expected=f"at least {FEWEST_PAIRS} judgements to learn from",
            got=f"{int(used.sum())}",
            remedy="--head linear, or bring more judgements",
        )
    if not decided.any():
        raise DataError(
            f"--head {settings.head.kind} is built from chosen and from rejected responses, and there is but one class",
            expected="judgements that prefer a response",
            got=f"{int(used.sum())} judgements, all of them ties",
            remedy="--head linear, or check how the labels were read: assay check",
        )


def start_bank(model: RewardModel, data: TrainingRecords, states_of: StatesOf) -> None:
    """Fill the banks of all members before training; nothing where the head has none."""
    if not isinstance(model.head, PrototypeHead | KernelHead):
        return
    begin_all(model.head, data, states_of)
    if model.head.counts[-1] == 0:
        say(
            f"--head {model.config.head}: the judgements are about one prompt, so nothing of another one could try "
            "prototypes: there are none" + ("" if isinstance(model.head, KernelHead) else ", and the head is linear")
        )


def bank_of(model: RewardModel, learned: TrainingRecords, data: Dataset, states_of: StatesOf) -> dict[str, Any]:
    """Return what became of the bank of a trained model, and keep with it whom each prototype is near.

    Of several members, what became of each and the means; their prototypes explain no score.

    Parameters
    ----------
    model
        After training.
    learned
        What it learned from.
    data
        The same records, as text.
    states_of
        Vectors of some of their texts.
    """
    head = model.head
    if not isinstance(head, PrototypeHead | KernelHead):
        return {}
    if isinstance(head, KernelHead):
        return {"active": int(head.counts[0]), "gamma": head.log_gamma[0].exp().item()}
    each = [state_of_bank(head, member, learned, states_of) for member in range(len(head.points))]
    if len(each) > 1:
        numbers = np.mean([[one["active"], one.get("effective_number", np.nan)] for one in each], axis=0).tolist()
        return {"active": numbers[0], "effective_number": numbers[1], "members": each}
    told = each[0]
    judged = np.flatnonzero(learned.classes)
    if told["active"] and len(judged):
        model.record.prototypes = describe(head, judged, states_of(judged), learned, data)
    if not told.get("in_band", True):
        say(
            f"the prototypes' effective number is {told['effective_number']:.1f}, outside {told['band'][0]:g} to "
            f"{told['band'][1]:g}: "
            + ("one or two decide alone" if told["effective_number"] < 3 else "all count alike")
        )
    return told


@torch.no_grad()
def describe(
    head: PrototypeHead, texts: np.ndarray, states: Tensor, learned: TrainingRecords, data: Dataset
) -> list[dict[str, Any]]:
    """Return for each prototype its class, how much it is used, and the training responses nearest to it."""
    states = states.to(head.points.device)
    count = int(head.counts[0])
    weights = head.weights(states)[:, 0, :count]
    normed, points = head.normed(states), head.points[0, :count].float()
    order = torch.cdist(points, normed).argsort(dim=-1)[:, :EXAMPLES].cpu().numpy()
    record = owners_of(learned)
    usage, effects = weights.mean(dim=0).tolist(), (points @ head.weight[0].float()).tolist()
    described = []
    for slot in range(count):
        near = texts[order[slot]]
        described.append(
            {
                "prototype": slot,
                "class": "chosen" if head.classes[0, slot] > 0 else "rejected",
                "usage": usage[slot],
                "score": effects[slot],
                "built_from": int((head.owners[0, slot] >= 0).sum()),
                "nearest": [_shown(data, int(record[t]), int(t - learned.records.offsets[record[t]])) for t in near],
            }
        )
    return described


def _shown(data: Dataset, record: int, response: int) -> dict[str, str]:
    row = data[record]
    return {"prompt": _short(prompt_text(row["prompt"])), "response": _short(row["responses"][response])}


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
