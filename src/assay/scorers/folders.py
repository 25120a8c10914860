"""Where a model lies: a folder, a run folder's ``model/``, or the snapshot of a Hub id."""

from __future__ import annotations

import os

from assay.errors import ModelError


def find_folder(name: str) -> str:
    """Return the local folder of a model: a path, a run folder's ``model/``, or the snapshot of a Hub id.

    A folder comes before a Hub id of the same name. What cannot be a Hub id (``./x``, ``/x``, ``~/x``, two slashes) is
    never looked up there.

    Raises
    ------
    ModelError
        If there is no such folder, it holds no model, or the Hub cannot be reached.
    """
    path = os.path.abspath(os.path.expanduser(name))
    if os.path.isfile(path):
        raise ModelError("this is a file", where=name, expected="a model folder or a Hub id")
    if os.path.isdir(path):
        if not _holds_model(path):
            path = os.path.join(path, "model")
        if not _holds_model(path):
            raise ModelError(
                "this folder holds no model",
                where=name,
                expected="config.json, or a run folder with model/",
                remedy="check the path",
            )
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError("no such model folder", where=name, remedy="check the path")
    return _download(name)


def _holds_model(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in ("config.json", "adapter_config.json"))


def _download(name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        return str(snapshot_download(name))
    except (HTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            f"there is no folder {name!r}, and no such model on the Hub within reach: {str(error).splitlines()[0]}",
            expected="a folder of assay train, a sequence classifier with one label, or a Hub id",
            remedy="check the spelling and the network (HF_HUB_OFFLINE)",
        ) from error
