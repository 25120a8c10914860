from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.errors import OutputError
from assay.training import checkpoints
from tests.training.support import kill_self, new_model, planted, run_killed, trainer_for


def make(folder: Path, *steps: int, torn: tuple[int, ...] = ()) -> None:
    for step in (*steps, *torn):
        checkpoint = folder / f"checkpoint-{step}"
        (checkpoint / "backbone").mkdir(parents=True)
        (checkpoint / "backbone" / "weights").write_bytes(b"x")
        if step in steps:
            checkpoints.mark_complete(checkpoint, "plan")


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints.all_checkpoints(folder)]


def test_the_newest_whole_one_counts_by_number_not_by_name(tmp_path: Path) -> None:
    make(tmp_path, 9, 10, torn=(11,))
    (tmp_path / "checkpoint-best").mkdir()
    newest = checkpoints.newest_complete(tmp_path)
    assert newest is not None and newest.name == "checkpoint-10"
    assert checkpoints.remove_torn(tmp_path) == ["checkpoint-11"]
    assert names(tmp_path) == ["checkpoint-9", "checkpoint-10"]
    assert (tmp_path / "checkpoint-best").exists()


def test_there_may_be_none(tmp_path: Path) -> None:
    assert checkpoints.newest_complete(tmp_path / "absent") is None
    make(tmp_path, torn=(1, 2))
    assert checkpoints.newest_complete(tmp_path) is None


def test_everything_is_on_disk_before_the_marker_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, torn=(1,))
    folder, flushed = tmp_path / "checkpoint-1", list[str]()
    before_marker = []

    def fsync(descriptor: int) -> None:
        flushed.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), folder))

    def replace(source: Any, target: Any) -> None:
        before_marker.extend(flushed)
        os.rename(source, target)

    monkeypatch.setattr(checkpoints.os, "fsync", fsync)
    monkeypatch.setattr(checkpoints.os, "replace", replace)
    checkpoints.mark_complete(folder, "plan")
    assert set(before_marker) == {".", "backbone", "backbone/weights", "COMPLETE.partial"}
    assert flushed[-1] == "."
    assert checkpoints.is_complete(folder)


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(2, None, [3, 4]), (1, "elsewhere/checkpoint-2", [2, 4]), (2, "checkpoint-4", [3, 4]), (0, None, [4])],
)
def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path, keep: int, best: str | None, left: list[int]) -> None:
    make(tmp_path, 1, 2, 3, 4)
    checkpoints.rotate(tmp_path, keep, best)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in left]


def test_a_kill_while_one_is_deleted_leaves_a_torn_one(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)

    def work() -> None:
        shutil.rmtree = lambda *_, **__: kill_self()  # type: ignore[assignment]
        checkpoints.rotate(tmp_path, 1, None)

    run_killed(work)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]
    assert checkpoints.remove_torn(tmp_path) == ["checkpoint-1"]


SAVING: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}


def test_a_run_writes_whole_ones_and_keeps_few(llama: str, out: Path) -> None:
    trainer = trainer_for(new_model(llama), planted(30), out, **SAVING, keep_checkpoints=2)
    trainer.train()
    assert len(trainer.plan) == 5
    assert names(out) == ["checkpoint-4", "checkpoint-5"]
    for path in checkpoints.all_checkpoints(out):
        checkpoints.check_resumable(path, trainer.plan.digest())


def test_a_second_run_in_the_same_folder_is_refused(llama: str, out: Path) -> None:
    trainer_for(new_model(llama), planted(12), out, **SAVING).train()
    with pytest.raises(OutputError, match="another run left its checkpoints"):
        trainer_for(new_model(llama), planted(12), out, **SAVING).train()


@pytest.mark.parametrize("change", [{"seed": 4}, {"pairs_per_step": 4}, {"num_train_epochs": 2}])
def test_a_run_with_other_batches_cannot_be_resumed(llama: str, out: Path, change: dict[str, Any]) -> None:
    trainer_for(new_model(llama), planted(30), out, **SAVING).train()
    with pytest.raises(OutputError, match="belongs to a run with other batches"):
        trainer_for(new_model(llama), planted(30), out, **SAVING | change).train(resume_from_checkpoint=True)


def test_a_torn_one_cannot_be_resumed_by_name(llama: str, out: Path) -> None:
    trainer_for(new_model(llama), planted(30), out, **SAVING).train()
    checkpoints.unmark(out / "checkpoint-5")
    trainer = trainer_for(new_model(llama), planted(30), out, **SAVING)
    with pytest.raises(OutputError, match="not whole"):
        trainer.train(resume_from_checkpoint=out / "checkpoint-5")


def test_resuming_where_there_is_none_begins_anew(llama: str, out: Path) -> None:
    make(out, torn=(3,))
    trainer = trainer_for(new_model(llama), planted(12), out, **SAVING)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == len(trainer.plan)
    assert "checkpoint-3" not in names(out)


def test_one_that_is_written_again_does_not_count_meanwhile(
    llama: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer_for(new_model(llama), planted(30), out, **SAVING, keep_checkpoints=9).train()
    assert names(out) == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    seen = []
    original = checkpoints.mark_complete

    def marking(folder: str, plan: str) -> None:
        seen.append((os.path.basename(folder), checkpoints.is_complete(folder)))
        original(folder, plan)

    monkeypatch.setattr(checkpoints, "mark_complete", marking)
    trainer = trainer_for(new_model(llama), planted(30), out, **SAVING, keep_checkpoints=9)
    trainer.train(resume_from_checkpoint=str(out / "checkpoint-2"))
    assert seen == [("checkpoint-4", False), ("checkpoint-5", False)]
