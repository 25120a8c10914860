"""Nothing is read back from the device between two reports."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from assay.training import PreferenceTrainer
from tests.training.support import new_model, planted, trainer_for

# what makes the host wait for the device, on tensors that would be there
READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "nonzero", "__array__")


class Steps(TrainerCallback):
    """Knows which step is under way."""

    now = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.now = state.global_step + 1


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Collect (function, innermost frame outside torch) of every read during a training step or a report."""
    found: list[tuple[str, str]] = []
    for name in READS:
        original = getattr(torch.Tensor, name)

        def reading(self: torch.Tensor, *args: Any, original: Any = original, name: str = name, **kwargs: Any) -> Any:
            frames = [f for f in traceback.extract_stack()[:-1] if "/torch/" not in f.filename]
            found.append((name, f"{Path(frames[-1].filename).parent.name}/{Path(frames[-1].filename).name}"))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, reading)
    yield found


def run(llama: str, out: Path, reads: list[tuple[str, str]], **changes: Any) -> dict[int, list[tuple[str, str]]]:
    """Train, and return the reads that were made while each step was under way (after its data were there)."""
    steps, by_step = Steps(), dict[int, list[tuple[str, str]]]()

    class Watched(PreferenceTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            start = len(reads)
            loss = super().training_step(*args, **kwargs)
            by_step.setdefault(steps.now, []).extend(reads[start:])
            return loss

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            start = len(reads)
            super().log(logs, *args, **kwargs)
            by_step.setdefault(-steps.now, []).extend(reads[start:])

    trainer = trainer_for(new_model(llama), planted(60), out, callbacks=[steps], logging_steps=5, **changes)
    trainer.__class__ = Watched
    reads.clear()
    trainer.train()
    assert len([s for s in by_step if s > 0]) == len(trainer.plan) == 10
    return by_step


@pytest.mark.parametrize("change", [{}, {"centring": 0.1}, {"token_budget": 80}, {"bf16": True}], ids=str)
def test_a_step_reads_nothing_back(llama: str, out: Path, reads: list[tuple[str, str]], change: dict[str, Any]) -> None:
    by_step = run(llama, out, reads, **change)
    # transformers asks once a forward pass whether a padding mask could be left out
    masks = ("__bool__", "transformers/masking_utils.py")
    ours = {step: [read for read in found if read != masks] for step, found in by_step.items()}
    assert {step: found for step, found in ours.items() if step > 0 and found} == {}


def test_a_report_reads_accuracy_once(llama: str, out: Path, reads: list[tuple[str, str]]) -> None:
    by_step = run(llama, out, reads)
    reports = {-step: found for step, found in by_step.items() if step < 0}
    assert set(reports) == {5, 10}
    assert [name for name, _ in reports[5]] == ["tolist"]


def test_between_reports_transformers_reads_nothing_either(llama: str, out: Path, reads: list[tuple[str, str]]) -> None:
    counts: list[int] = []

    class Count(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            counts.append(len([read for read in reads if read[1] not in HOST]))

    trainer_for(new_model(llama), planted(60), out, callbacks=[Count()], logging_steps=100).train()
    assert len(set(counts)) == 1, sorted(set(reads))


# where tensors are known to be on the host: batches that are being made, and masks (see above)
HOST = {"transformers/masking_utils.py", "training/data.py", "scorers/batches.py"}
