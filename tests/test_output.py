from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.errors import OutputError
from assay.output import check_new, new_folder, write_atomic, write_json


def names(folder: Path) -> set[str]:
    return {child.name for child in folder.iterdir()}


def finish(path: Path, content: str, *, overwrite: bool = False, resume: bool = False) -> None:
    with new_folder(path, overwrite=overwrite, resume=resume) as folder:
        (folder / "file").write_text(content)


def die(path: Path, *files: str) -> None:
    """Leave what a run leaves that ended in mid-work and keeps its folder."""
    with pytest.raises(ZeroDivisionError), new_folder(path, keep_on_error=True) as folder:
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("old")
        raise ZeroDivisionError


def test_appears_only_when_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "run") as folder:
        assert folder == tmp_path / "deep" / "run.partial"
        (folder / "file").write_text("x")
        assert names(tmp_path / "deep") == {"run.partial"}
    assert names(tmp_path / "deep") == {"run"}
    assert (tmp_path / "deep" / "run" / "file").read_text() == "x"


def test_nothing_is_left_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "run") as folder:
        (folder / "file").write_text("x")
        raise ZeroDivisionError
    assert names(tmp_path) == set()


def test_existing_target_is_refused_before_work_and_kept(tmp_path: Path) -> None:
    finish(tmp_path / "run", "first")
    with pytest.raises(OutputError, match="exists already") as caught, new_folder(tmp_path / "run"):
        pytest.fail("work began")
    assert "--overwrite" in (caught.value.remedy or "")
    with pytest.raises(OutputError, match="exists already"):
        check_new(tmp_path / "run")
    assert (tmp_path / "run" / "file").read_text() == "first"
    assert names(tmp_path) == {"run"}


def test_overwrite_replaces_only_when_the_new_one_is_whole(tmp_path: Path) -> None:
    finish(tmp_path / "run", "first")
    (tmp_path / "run" / "extra").write_text("first")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "run", overwrite=True):
        raise ZeroDivisionError
    assert (tmp_path / "run" / "file").read_text() == "first"
    finish(tmp_path / "run", "second", overwrite=True)
    assert (tmp_path / "run" / "file").read_text() == "second"
    assert names(tmp_path) == {"run"}
    assert "extra" not in names(tmp_path / "run")


@pytest.mark.parametrize("name", ["run", "run.partial"])
def test_folder_of_another_program_is_never_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("years of work")
    with (
        pytest.raises(OutputError, match="not written by assay"),
        new_folder(tmp_path / "run", overwrite=True),
    ):
        pytest.fail("work began")
    assert (tmp_path / name / "thesis.tex").exists()


def test_target_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(OutputError, match="exists already"), new_folder(tmp_path / "run"):
        pytest.fail("work began")
    with pytest.raises(OutputError, match="a file, not a folder"), new_folder(tmp_path / "run", overwrite=True):
        pytest.fail("work began")


def test_leftover_with_checkpoints_asks_for_a_decision(tmp_path: Path) -> None:
    die(tmp_path / "run", "model/checkpoint-5/weights")
    with pytest.raises(OutputError, match="interrupted run left checkpoints") as caught, new_folder(tmp_path / "run"):
        pytest.fail("work began")
    assert "--resume" in (caught.value.remedy or "")
    with new_folder(tmp_path / "run", resume=True) as folder:
        assert (folder / "model/checkpoint-5/weights").read_text() == "old"
    assert names(tmp_path) == {"run"}


def test_leftover_is_begun_anew_with_overwrite_or_without_checkpoints(tmp_path: Path) -> None:
    die(tmp_path / "run", "checkpoint-5/weights")
    finish(tmp_path / "run", "new", overwrite=True)
    assert names(tmp_path / "run") == {"file", ".assay"}
    die(tmp_path / "other", "log")
    finish(tmp_path / "other", "new")
    assert names(tmp_path / "other") == {"file", ".assay"}


def test_resume_without_leftover_begins_anew(tmp_path: Path) -> None:
    finish(tmp_path / "run", "x", resume=True)
    assert (tmp_path / "run" / "file").exists()


def test_resumed_folder_is_kept_on_error(tmp_path: Path) -> None:
    die(tmp_path / "run", "checkpoint-5/weights")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "run", resume=True):
        raise ZeroDivisionError
    assert (tmp_path / "run.partial" / "checkpoint-5").exists()


def test_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    finish(tmp_path / "run", "first")
    (tmp_path / "run").rename(tmp_path / "run.former")
    with pytest.raises(OutputError, match="exists already"), new_folder(tmp_path / "run"):
        pytest.fail("work began")
    assert (tmp_path / "run" / "file").read_text() == "first"


def test_second_run_at_the_same_place_is_refused_and_a_killed_one_is_not_in_the_way(tmp_path: Path) -> None:
    code = (
        "import sys, time; from assay.output import new_folder\n"
        "with new_folder(sys.argv[1]) as folder:\n"
        "    print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(OutputError, match="another run is writing"), new_folder(tmp_path / "run", overwrite=True):
            pytest.fail("work began")
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert names(tmp_path) == {"run.partial"}
    finish(tmp_path / "run", "x")
    assert names(tmp_path) == {"run"}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk_during_the_work(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(OutputError, match="no space left") as caught, new_folder(tmp_path / "run"):
        raise error
    assert caught.value.remedy
    assert names(tmp_path) == set()


def test_other_errors_of_the_work_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "run"):
        Path("no-such-data.jsonl").read_text()


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.EACCES, "no permission"), (errno.EROFS, "read-only"), (errno.ENOSPC, "no space"), (errno.EIO, "error")],
)
def test_unwritable_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match=message), new_folder(tmp_path / "run"):
        pytest.fail("work began")
    with pytest.raises(OutputError, match=message):
        write_atomic(tmp_path / "file", "x")


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for attempt in (lambda: write_atomic(tmp_path / "file" / "a", "x"), lambda: finish(tmp_path / "file" / "a", "x")):
        with pytest.raises(OutputError, match="a file"):
            attempt()


def test_atomic_write_replaces_and_leaves_nothing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sub" / "a.txt"
    write_atomic(file, "one")
    write_atomic(file, b"two")
    assert file.read_bytes() == b"two"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space left"):
        write_atomic(file, "three")
    assert file.read_bytes() == b"two"
    assert names(file.parent) == {"a.txt"}


def test_json_of_numpy_and_of_numbers_that_json_lacks(tmp_path: Path) -> None:
    value = {
        "z": np.float32(0.5),
        "a": [math.nan, math.inf, -math.inf, np.float64("nan")],
        "array": np.array([[1.0, np.nan]]),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "path": Path("a/b"),
        "text": "größer \ud83d",
        np.str_("key"): (1, 2),
    }
    write_json(tmp_path / "m.json", value)
    text = (tmp_path / "m.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "z": 0.5,\n  "a": [\n    null')
    assert "größer" in text
    assert json.loads(text) == {
        "z": 0.5,
        "a": [None] * 4,
        "array": [[1.0, None]],
        "count": 3,
        "flag": True,
        "path": "a/b",
        "text": "größer \ud83d",
        "key": [1, 2],
    }
    with pytest.raises(TypeError):
        write_json(tmp_path / "m.json", {"a": object()})
    assert names(tmp_path) == {"m.json"}
