"""The trainer against a loop written by hand, and against another library's loss."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from assay.scorers.batches import pad
from tests.training.support import assert_equal, encoded, new_model, planted, trainer_for, weights


def test_ten_steps_equal_a_plain_loop(llama: str, out: Path) -> None:
    data = planted(60)
    ours = new_model(llama)
    trainer = trainer_for(
        ours,
        data,
        out,
        learning_rate=3e-3,
        head_learning_rate=2e-2,
        weight_decay=0.1,
        warmup_steps=3,
        max_grad_norm=0.5,
        token_budget=150,
        pairs_per_step=8,
        max_steps=10,
        logging_steps=1,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    model = new_model(llama)
    records = encoded(model, data)
    head = model.get_parameter("head.weight")
    groups: list[dict[str, Any]] = [
        {"params": [p], "lr": 2e-2 if p is head else 3e-3, "weight_decay": 0.1 if p.dim() >= 2 else 0.0}
        for p in model.parameters()
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    rates = [group["lr"] for group in groups]
    assert len(losses) == 10
    for step in range(10):
        chosen = [int(r) for micro in trainer.plan.steps[step][0] for r in micro]
        losses_here = []
        for r in chosen:
            ids, mask = pad(records.ids(r), 0)
            hidden = model.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
            scores = hidden[torch.arange(len(ids)), mask.sum(1) - 1] @ head[0]
            for edge in data[r]["edges"]:
                gap = scores[edge["a"]] - scores[edge["b"]]
                losses_here.append(-edge["p"] * F.logsigmoid(gap) - (1 - edge["p"]) * F.logsigmoid(-gap))
        loss = torch.stack(losses_here).mean()
        assert losses[step] == pytest.approx(loss.item(), abs=2e-6)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        factor = step / 3 if step < 3 else (10 - step) / 7  # linear warm-up, then linearly to 0
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.step()
    assert losses[0] == pytest.approx(0.693147, abs=1e-6)
    assert losses[-1] < 0.66
    assert_equal(weights(ours), weights(model), 5e-5)


@pytest.mark.slow
def test_loss_and_gradient_equal_those_of_trl(llama: str, out: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    data = planted(24).filter(lambda row: len(row["responses"]) == 2)
    model = new_model(llama, layout="native")
    torch.nn.init.normal_(model.backbone.score.weight, generator=torch.Generator().manual_seed(0))
    records = encoded(model, data)
    rows = []
    for index in range(len(data)):
        a, b = (ids.tolist() for ids in records.ids(index))
        better, worse = (a, b) if records.pairs.p[index] == 1 else (b, a)
        rows.append({"chosen_ids": better, "rejected_ids": worse})
    theirs = copy.deepcopy(model.backbone)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = trl.RewardTrainer(
            model=theirs,
            args=trl.RewardConfig(output_dir=str(out), use_cpu=True, bf16=False, report_to="none"),
            train_dataset=Dataset.from_list(rows),
            processing_class=model.encoder.tokenizer,
        )
        theirs.train()
        batch = peer.data_collator(rows)
        peer_loss = peer.compute_loss(theirs, dict(batch))
    peer_loss.backward()

    trainer = trainer_for(model, data, out, pairs_per_step=100, token_budget=10**6)
    item: dict[str, Any] = {
        "batches": trainer.train_dataset[0]["batches"],
        "weight": torch.tensor(float(len(rows))),
    }
    (mine,) = item["batches"]
    assert len(mine["edges"]) == len(rows) and sum(len(block["input_ids"]) for block in mine["rows"]) == 2 * len(rows)
    loss = trainer.training_step(model, item)
    assert float(loss) == pytest.approx(float(peer_loss.detach()), abs=1e-5)
    mine, other = (
        torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (model.backbone, theirs)
    )
    assert float(other.norm()) > 1e-3
    assert float(F.cosine_similarity(mine, other, dim=0)) > 0.9999
    assert float(mine.norm() / other.norm()) == pytest.approx(1, abs=1e-4)
