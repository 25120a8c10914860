"""One way to name any model that gives rewards: a folder, an address, or the model itself; and what failure means."""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from torch import nn

from assay.errors import ConfigError, ModelError
from assay.scorers import RewardModel
from assay.scorers.loading import load_reward_model
from assay.scorers.served import ServedModel, is_address
from assay.workflows import hardware

Found = TypeVar("Found")
#: What stands for a score that could not be had: an error, nothing, or a number.
Failure = Literal["raise"] | float | None


def scorer_at(where: Any, **options: Any) -> Any:
    """Return a scorer by its name.

    Parameters
    ----------
    where
        Address of `assay serve`; folder, run folder or Hub id of a model; or a model itself.
    options
        Of `ServedModel`, for an address only.

    Returns
    -------
    RewardModel or ServedModel
        A model is put on the best device.
    """
    if is_address(where):
        return ServedModel(where, **options)
    if options:
        raise ConfigError(
            "these options are of a server", where=", ".join(options), expected="an address", got=str(where)
        )
    model: RewardModel = load_reward_model(where) if isinstance(where, str) else where
    model = model.to(hardware.best_device())
    return model.eval() if isinstance(model, nn.Module) else model


class OneAtATime:
    """A scorer that threads may share: a model here takes its callers one after another, a server takes them together.

    Parameters
    ----------
    scorer
        As `scorer_at` gives it.
    """

    def __init__(self, scorer: Any) -> None:
        self.scorer = scorer
        self._turn: Any = contextlib.nullcontext() if isinstance(scorer, ServedModel) else threading.Lock()

    def __call__(self, work: Callable[[Any], Found]) -> Found:
        """Return what a function makes of the scorer."""
        with self._turn:
            return work(self.scorer)


def known_failure(failure: Failure, *, number: bool = False) -> Failure:
    """Return what stands for a score that could not be had, if it is one.

    Raises
    ------
    ConfigError
        If it is something else, or None where ``number`` says that only numbers are understood.
    """
    plain = isinstance(failure, int | float) and not isinstance(failure, bool) and math.isfinite(failure)
    if failure == "raise" or plain or (failure is None and not number):
        return failure
    expected = "'raise' or a finite number" + ("" if number else ", or None")
    raise ConfigError("this cannot stand for a score", expected=expected, got=repr(failure))


def scored_or(failure: Failure, score: Callable[[], Found], count: int) -> Found | None:
    """Return what ``score()`` gives; where it fails, None with a warning, or the error where failure is to raise."""
    try:
        return score()
    except ModelError as error:
        if failure == "raise":
            raise
        warnings.warn(f"{count} scores are missing, {failure} stands for them: {error}", stacklevel=3)
        return None
