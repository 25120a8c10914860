"""The loss of reward models that trains scores of prefixes: against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from assay.scorers import RewardModel
from assay.scorers.layout import Layout
from assay.training import PairwiseObjective
from assay.training.data import TextSource
from assay.training.records import TrainingRecords
from tests.training.support import encoded, planted
from tests.training.test_text_regulariser import model_of


def data_of(model: RewardModel) -> TrainingRecords:
    return TrainingRecords(encoded(model, planted(6)), model.encoder.pad_id).with_prefixes()


def brute_force(model: RewardModel, data: TrainingRecords) -> torch.Tensor:
    """Score every prefix as a text of its own."""
    records, view = data.records, data.records.pairs
    total = torch.zeros(())

    def after(text: int, tokens: int) -> torch.Tensor:
        ids = records.text(text)[: records.reply_starts[text] + tokens]
        hidden = model.backbone(input_ids=torch.tensor(np.asarray(ids)[None])).last_hidden_state[:, -1]
        return model.values(hidden.float())[0]

    for edge in range(len(view)):
        a, b = (int(records.offsets[view.row[edge]] + side[edge]) for side in (view.a, view.b))
        replies = [np.asarray(records.text(text)[records.reply_starts[text] :]) for text in (a, b)]
        first = next(k for k in range(max(map(len, replies))) if len({*(tuple(r[: k + 1]) for r in replies)}) > 1)
        steps = range(first + 1, max(map(len, replies)) + 1)
        margins = [after(a, min(k, len(replies[0]))) - after(b, min(k, len(replies[1]))) for k in steps]
        p = float(view.p[edge])
        losses = [-(p * functional.logsigmoid(z) + (1 - p) * functional.logsigmoid(-z)) for z in margins]
        total = total + float(view.w[edge]) * torch.stack(losses).mean(dim=0)
    return total


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("members", [1, 2])
def test_the_loss_is_the_mean_over_tokens(tiny_causal: Path, shares: bool, members: int) -> None:
    model = model_of(tiny_causal, dropout="none", members=members).eval()
    data = data_of(model)
    batch = TextSource(data, Layout(shares=shares)).batch(np.arange(len(data.texts)))
    output = model(batch["rows"], batch["order"], edges=batch["edges"], prefixes=True)
    found = PairwiseObjective(prefixes=True)(output, batch)
    expected = brute_force(model, data)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    weight = model.backbone.get_input_embeddings().weight
    own, other = (torch.autograd.grad(loss.sum(), weight, retain_graph=True)[0] for loss in (found, expected))
    torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)
    # scores of whole replies are the same as ever
    plain = model(batch["rows"], batch["order"], edges=batch["edges"])
    torch.testing.assert_close(output["margins"], plain["margins"], atol=1e-5, rtol=0)
    torch.testing.assert_close(PairwiseObjective(prefixes=True)(plain, batch), PairwiseObjective()(plain, batch))


def test_replies_of_one_token_have_the_loss_of_whole_ones(tiny_causal: Path) -> None:
    model = model_of(tiny_causal, dropout="none").eval()
    data = data_of(model)
    batch = TextSource(data, model.row_layout).batch(np.arange(len(data.texts)))
    output = model(batch["rows"], batch["order"], edges=batch["edges"], prefixes=True)
    # only the last place is compared where replies part at the end of the longer one
    counts = output["prefixes"][1]
    batch["parted"] = counts[batch["edges"]].amax(dim=1) - 1
    torch.testing.assert_close(
        PairwiseObjective(prefixes=True)(output, batch), PairwiseObjective()(output, batch), atol=1e-5, rtol=0
    )
