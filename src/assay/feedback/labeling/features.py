"""Features: one number per response. A labeling function votes by their difference."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from assay.errors import AssayError, DataError
from assay.feedback.labeling.texts import Texts

#: What a feature's function is called with: an Arrow column of responses; one response; one response and its prompt; a
#: list of responses and the list of their prompts.
Takes = Literal["column", "text", "text and prompt", "texts and prompts"]


@dataclass(frozen=True)
class Feature:
    """One number per response.

    Attributes
    ----------
    name
        In tables and on the command line.
    compute
        The function, which `takes` says how to call; it returns a number, or one per response. NaN: not defined, and
        functions abstain. It must be importable by its name where several processes work.
    takes
        See `Takes`.
    version
        Of whatever decides the numbers, such as a package's; values kept on disk are used again while it is the same,
        and so is the text of the function itself. Raise it when something changes that the function calls.
    settings
        Keyword arguments for the function; part of the identity too.
    kept
        Whether values may be kept on disk: not where the function is the user's own and may change.
    here
        Whether it must be computed in this process, because it holds a model.
    """

    name: str
    compute: Callable[..., Any]
    takes: Takes = "text"
    version: str = "1"
    settings: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = True
    here: bool = False

    @cached_property
    def key(self) -> str:
        """The identity of its values."""
        return f"{self.name} {self.version} {sorted(self.settings.items())} {_source(self.compute)}"

    def values(self, texts: Texts) -> np.ndarray:
        """Return the feature of each response, float64 ``[N]``.

        Raises
        ------
        DataError
            If the function raises, or returns something else than one number per response.
        """
        if self.takes in ("text", "text and prompt"):
            found: Any = self._one_by_one(texts)
        else:
            try:
                found = self._at_once(texts)
            except AssayError:  # a judge that is down says so itself
                raise
            except Exception as error:
                raise failed(self.name, error) from error
        return self._checked(found, len(texts))

    def _one_by_one(self, texts: Texts) -> list[Any]:
        found = []
        with_prompt = self.takes == "text and prompt"
        for i, line in enumerate(texts.lines):
            given = (line, texts.prompts[texts.prompt_of[i]]) if with_prompt else (line,)
            try:
                found.append(self.compute(*given, **self.settings))
            except Exception as error:
                raise failed(self.name, error, line) from error
        return found

    def _at_once(self, texts: Texts) -> Any:
        if self.takes == "column":
            return self.compute(texts.responses, **self.settings)
        prompts = texts.prompts
        return self.compute(texts.lines, [prompts[i] for i in texts.prompt_of], **self.settings)

    def _checked(self, found: Any, count: int) -> np.ndarray:
        if isinstance(found, pa.Array | pa.ChunkedArray):
            found = found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy()
        try:
            values = np.asarray(found, np.float64)
        except (TypeError, ValueError) as error:
            bad = next((each for each in found if not isinstance(each, int | float)), found)
            raise DataError(
                "a feature is a number", where=f"labeling function {self.name}", expected="a number", got=repr(bad)[:80]
            ) from error
        if values.shape != (count,):
            raise DataError(
                "a feature has one number per response",
                where=f"labeling function {self.name}",
                expected=f"{count} numbers",
                got=f"an array of shape {list(values.shape)}",
            )
        return values


def _source(function: Callable[..., Any]) -> str:
    """Return a digest of the text of a function; empty where it has none to read."""
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""


def failed(name: str, error: BaseException, text: str | None = None) -> DataError:
    """Return the error that tells which function raised what, and on which text."""
    shown = "" if text is None else f", on {text[:60]!r}" + (f" … ({len(text)} characters)" if len(text) > 60 else "")
    return DataError(
        f"it raised {type(error).__name__}: {error}",
        where=f"labeling function {name}",
        expected="a vote, or to abstain, on any text",
        got=f"an exception{shown}",
        remedy="mend it: check_labeling_function tries it on odd texts",
    )


@dataclass(frozen=True)
class Window:
    """Which differences are large enough to vote on, and which are too large to trust; bounds vote.

    Attributes
    ----------
    least, most
        Of the absolute difference. A difference of 0 never votes.
    """

    least: float = 0.0
    most: float = np.inf

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most:
            raise DataError(
                "a window has no room", expected="0 <= least <= most", got=f"least {self.least}, most {self.most}"
            )

    def votes(self, difference: np.ndarray) -> np.ndarray:
        """Return the sign of each difference in the window, 0 elsewhere and for NaN; int8, same shape."""
        size = np.abs(difference)
        inside = (size >= self.least) & (size <= self.most)
        return np.sign(difference, where=inside, out=np.zeros(difference.shape)).astype(np.int8)


def joined(features: Sequence[Feature]) -> list[Feature]:
    """Return each distinct feature once."""
    return list({feature.key: feature for feature in features}.values())
