"""Without network, what is cached is used at once, and what is not is refused in seconds."""

from __future__ import annotations

import re
from pathlib import Path

from assay.config import Settings
from assay.console import say

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")
_NAMES = ("data", "test", "train", "model", "against", "backbone", "reference", "tokenizer")
_PACKAGED = {"minilm", "none", "auto"}
_SECONDS = 5.0


def asks_the_hub(settings: Settings) -> bool:
    """Tell whether a setting names something that is no file or folder here, and so may be a Hub id."""
    given = [str(value) for name in _NAMES if (value := getattr(settings, name, None))]
    return any(_HUB_ID.fullmatch(name) and name not in _PACKAGED and not Path(name).exists() for name in given)


def use_cache_without_network(settings: Settings) -> None:
    """Ask the Hub once; if it cannot be reached, let every library look into its cache only.

    Each of them would try six times over, for half a minute a file.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or not asks_the_hub(settings):
        return
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except (HTTPError, OSError):
        import datasets

        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        say(f"{constants.ENDPOINT} cannot be reached: only what is cached can be used")
