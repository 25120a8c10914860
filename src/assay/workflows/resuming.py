"""What an interrupted run leaves behind, and whether another command may go on from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assay.console import say
from assay.errors import ConfigError


@contextmanager
def kept_if_resumable(folder: Path, newest: Callable[[Path], str | None]) -> Iterator[None]:
    """Remove what an error or Ctrl-C leaves behind, unless ``--resume`` can go on from it.

    Parameters
    ----------
    folder
        Of the run.
    newest
        Says up to where a run is finished, in words; None: nothing is.
    """
    try:
        yield
    except BaseException:
        whole = newest(folder)
        if whole is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"kept {folder} up to {whole}: the same command with --resume goes on from there")
        raise


def refuse_another_run(path: Path, identity: dict[str, Any]) -> None:
    """Refuse to resume a run of other settings or other data.

    Parameters
    ----------
    path
        Where the interrupted run keeps its identity; without a file there is nothing to refuse.
    identity
        Of this run; ``settings`` among it are named one by one.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    if not path.exists():
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    changed = [key for key in identity if stored.get(key) != json.loads(json.dumps(identity[key]))]
    if changed:
        old, new = stored.get("settings", {}), identity["settings"]
        names = [name for name in new if old.get(name) != new[name]] if "settings" in changed else changed
        raise ConfigError(
            f"the interrupted run differs from this one in: {', '.join(names)}",
            where=str(path.parent),
            expected="the same data and settings",
            remedy="repeat the first command with --resume, or begin anew with --overwrite",
        )
