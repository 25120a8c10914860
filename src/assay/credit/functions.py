"""Rewards that come from functions: reward models, Python files, verifiers, servers; all asked in one way."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from pathlib import Path
from typing import Any

from assay.credit.answers import Answers
from assay.credit.links import AtTheEnd, Standard
from assay.credit.redistribution import CreditError
from assay.errors import AssayError, ConfigError
from assay.feedback.labeling.finding import load_module
from assay.scorers.remote_reward import RemoteReward
from assay.scorers.verifiers import RewardFunction


def by_function(function: RewardFunction, name: str | None = None) -> AtTheEnd:
    """Return the link of a function in TRL's shape.

    It is called by keyword with ``prompts``, ``completions``, ``completion_ids``, every column of the data, ``groups``
    (the number of each completion's prompt), ``trainer_state`` (None), and ``log_extra`` and ``log_metric``, which do
    nothing here. Strings stay strings; the completions of prompts that are lists of messages are lists of one assistant
    message. Coroutines are awaited. What it raises stops training, by its name; None is no reward.
    """
    known = name or str(getattr(function, "__name__", type(function).__name__))

    def score(answers: Answers) -> Any:
        completions = [
            text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
            for prompt, text in zip(answers.prompts, answers.texts, strict=True)
        ]
        given: dict[str, Any] = {
            "completion_ids": [answers.ids(row).tolist() for row in range(len(answers))],
            **answers.columns,
        }
        given |= {"groups": answers.groups.tolist(), "trainer_state": None}
        given |= {"log_extra": _not_logged, "log_metric": _not_logged}
        try:
            found = function(prompts=answers.prompts, completions=completions, **given)
            return asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found
        except AssayError:
            raise
        except (Exception, SystemExit) as error:
            raise CreditError(
                "a reward function failed",
                where=known,
                expected="a number for each completion, or None",
                got=f"{type(error).__name__}: {error}",
                remedy="mend the function; --resume goes on from the last checkpoint",
            ) from error

    return AtTheEnd(known, score)


def _not_logged(*_: Any, **__: Any) -> None:
    """Stand for what TRL lets reward functions log with."""


async def _awaited(found: Any) -> Any:
    return await found


def by_model(model: Any, name: str, standard: Standard | None = None, lower_by: float | None = None) -> AtTheEnd:
    """Return the link of a reward model's whole score.

    Parameters
    ----------
    model
        A reward model, or a policy as a scorer.
    name
        For reports.
    standard
        Brings scores to scale.
    lower_by
        Of models that tell how sure they are: so many deviations are taken off (lower confidence bound). None: nothing.
    """

    def score(answers: Answers) -> Any:
        if lower_by is None:
            return model.score(answers.prompts, answers.texts)
        values, deviations = model.uncertainty(answers.prompts, answers.texts)
        return values - lower_by * deviations

    return AtTheEnd(name, score, standard)


def by_server(server: RemoteReward, name: str = "server") -> AtTheEnd:
    """Return the link of reward servers; the truth goes along as ``labels`` where the data have one."""

    def score(answers: Answers) -> Any:
        tokenizer, count = answers.tokenizer, len(answers)
        whole = [tokenizer.decode(own) for own in answers.sequences]
        begun = [tokenizer.decode(own[:start]) for own, start in zip(answers.sequences, answers.starts, strict=True)]
        return server(whole, begun, answers.columns.get("ground_truth", [None] * count))

    return AtTheEnd(name, score)


def function_from(place: str) -> RewardFunction:
    """Load ``FILE.py:name`` (without a name: ``reward``).

    Raises
    ------
    ConfigError
        If the file cannot be run, or holds no such function.
    """
    path, _, name = place.rpartition(":") if ".py:" in place else (place, "", "")
    name = name or "reward"
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError("the file of a reward function is not there", where=str(file), expected="FILE.py:name")
    try:
        digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
        module = load_module(f"assay_reward_{file.stem}_{digest}", str(file))
    except Exception as error:
        raise ConfigError(
            "the file of a reward function cannot be run", where=str(file), got=f"{type(error).__name__}: {error}"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(
            "there is no such function", where=str(file), expected=", ".join(there) or "a function", got=name
        )
    return found
