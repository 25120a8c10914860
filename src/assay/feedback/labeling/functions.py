"""Labeling functions: what compares two responses of one prompt and votes for one of them, or abstains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pickle import PicklingError
from typing import Any, Literal, NoReturn, get_args, overload

import numpy as np

from assay.errors import AssayError, DataError
from assay.feedback.labeling.features import Feature, Window, failed
from assay.feedback.labeling.finding import file_of, named_object
from assay.feedback.labeling.texts import Texts

FIRST, SECOND, ABSTAIN = 1, -1, 0
Prefers = Literal["more", "less"]


@dataclass(frozen=True)
class Batch:
    """Pairs of responses within one batch of texts; ``first`` and ``second`` number its responses, int64 ``[E]``."""

    texts: Texts
    first: np.ndarray
    second: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


class LabelingFunction(ABC):
    """Compares two responses of one prompt; ``name`` is unique among the functions used together."""

    name: str
    #: Whether it holds what cannot go to another process, such as a model; it then votes in this one.
    here: bool = False

    @abstractmethod
    def votes(self, batch: Batch) -> np.ndarray:
        """Return +1 (the first), -1 (the second) or 0 (abstains) for each pair, int8 ``[E]``.

        Raises
        ------
        DataError
            If the function raises or returns something else; its name is told.
        """


@dataclass(frozen=True)
class FeatureFunction(LabelingFunction):
    """Votes by the difference of a feature: antisymmetric, and silent on equal responses, whatever the feature is.

    Attributes
    ----------
    feature, window
        What is compared, and which differences vote.
    prefers
        The response with more of it, or with less.
    """

    feature: Feature
    window: Window = field(default_factory=Window)
    prefers: Prefers = "more"

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of its feature."""
        return self.feature.name

    def votes(self, batch: Batch) -> np.ndarray:
        """Return the votes of `LabelingFunction`."""
        return self.votes_by(self.feature.values(batch.texts), batch.first, batch.second)

    def votes_by(self, values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the votes on pairs of responses with these values, int8 ``[E]``."""
        with np.errstate(invalid="ignore"):  # two infinities of one sign: no difference is known
            found = self.window.votes(values[first] - values[second])
        return found if self.prefers == "more" else -found


@dataclass(frozen=True)
class MarginFunction(LabelingFunction):
    """Votes by what a scorer says of two responses together.

    Attributes
    ----------
    name
        In tables.
    margins
        Prompts, first and second responses in, margins of the first out, ``[n]``, NaN: it abstains. Its sign must turn
        with the order of the responses.
    window
        Which margins vote.
    """

    name: str
    margins: Callable[[list[str], list[str], list[str]], np.ndarray]
    window: Window = field(default_factory=Window)
    here: bool = True

    def votes(self, batch: Batch) -> np.ndarray:
        """Return the votes of `LabelingFunction`."""
        given = texts_of(batch)
        try:
            found = np.asarray(self.margins(*given), np.float64)
        except AssayError:
            raise
        except Exception as error:
            raise failed(self.name, error) from error
        if found.shape != (len(batch),):
            raise DataError(
                "there is one margin per pair",
                where=f"labeling function {self.name}",
                expected=f"{len(batch)} margins",
                got=f"shape {list(found.shape)}",
            )
        return self.window.votes(found)


@dataclass(frozen=True)
class Pair:
    """What a function of one pair sees: three texts, and nothing that anybody said of them."""

    prompt: str
    first: str
    second: str

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"a labeling function sees pair.prompt, pair.first and pair.second; there is no pair.{name}"
        )


class UserFunction(LabelingFunction):
    """A function of the user's, made by `labeling_function`.

    Parameters
    ----------
    function
        Called with a `Pair` and the resources; or, if ``vectorised``, with three lists of texts (prompts, first,
        second) and the resources.
    name
        In tables.
    vectorised
        Whether it takes all pairs of a batch at once and returns as many votes.
    resources
        Keyword arguments. What is callable is called once in each process and its result handed on, so that large
        things need not be copied.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        vectorised: bool = False,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        self.function, self.name, self.vectorised = function, name, vectorised
        self.resources = dict(resources or {})
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the plain function, for tests of it."""
        return self.function(*args, **{**self._made, **kwargs})

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str, str | None]]:
        module, name = self.function.__module__, self.function.__qualname__
        try:
            found = named_object(module, name, file_of(module))
        except (ImportError, AttributeError):
            found = None
        if found is not self:
            raise PicklingError(
                f"labeling function {self.name} cannot be sent to another process: it is not found as {module}.{name}; "
                "define it at the top level of a file, under the name it is given there"
            )
        return named_object, (module, name, file_of(module))

    @cached_property
    def _made(self) -> dict[str, Any]:
        return {name: value() if callable(value) else value for name, value in self.resources.items()}

    def votes(self, batch: Batch) -> np.ndarray:
        """Return the votes of `LabelingFunction`."""
        prompts, first, second = texts_of(batch)
        if self.vectorised:
            try:
                return self._checked(self.function(prompts, first, second, **self._made), len(batch))
            except DataError:
                raise
            except (Exception, SystemExit) as error:
                raise failed(self.name, error) from error
        found = []
        for prompt, one, other in zip(prompts, first, second, strict=True):
            try:
                found.append(self.function(Pair(prompt, one, other), **self._made))
            except (Exception, SystemExit) as error:
                raise failed(self.name, error, f"{one} | {other}") from error
        return self._checked(found, len(batch))

    def _checked(self, found: Any, count: int) -> np.ndarray:
        where = f"labeling function {self.name}"
        told = [ABSTAIN if each is None else each for each in found] if isinstance(found, list) else found
        try:
            given = np.asarray(told)
        except ValueError as error:  # lists among numbers
            raise DataError(
                "this is no vote",
                where=where,
                expected="1 (the first), -1 (the second), 0 or None (abstain)",
                got=f"votes of several shapes: {error}",
            ) from error
        if given.shape != (count,):
            raise DataError(
                "there is one vote per pair", where=where, expected=f"{count} votes", got=f"shape {list(given.shape)}"
            )
        bad = ~np.isin(given, (FIRST, SECOND, ABSTAIN))
        if bad.any():
            raise DataError(
                "this is no vote",
                where=where,
                expected="1 (the first), -1 (the second), 0 or None (abstain)",
                got=f"{given[bad][:1].tolist()[0]!r}, in {int(bad.sum())} of {count} pairs",
            )
        return given.astype(np.int8)


def texts_of(batch: Batch) -> tuple[list[str], list[str], list[str]]:
    """Return prompt, first and second response of each pair of a batch."""
    texts, lines = batch.texts, batch.texts.lines
    prompts = [texts.prompts[i] for i in texts.prompt_of[batch.first]]
    first, second = ([lines[i] for i in side] for side in (batch.first, batch.second))
    return prompts, first, second


@overload
def labeling_function(function: Callable[..., Any], /) -> UserFunction: ...
@overload
def labeling_function(
    *, name: str | None = None, vectorised: bool = False, resources: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., Any]], UserFunction]: ...
def labeling_function(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    vectorised: bool = False,
    resources: Mapping[str, Any] | None = None,
) -> UserFunction | Callable[[Callable[..., Any]], UserFunction]:
    """Make a labeling function of a function of one pair, or of all pairs of a batch.

    Examples
    --------
    >>> @labeling_function
    ... def names_a_source(pair):
    ...     said = "according to" in pair.first, "according to" in pair.second
    ...     return FIRST if said == (True, False) else SECOND if said == (False, True) else ABSTAIN
    >>> names_a_source.name
    'names_a_source'
    """

    def made(of: Callable[..., Any]) -> UserFunction:
        return UserFunction(of, name=name or of.__name__, vectorised=vectorised, resources=resources)

    return made if function is None else made(function)


def feature_function(
    *,
    least: float = 0.0,
    most: float = np.inf,
    prefers: Prefers = "more",
    name: str | None = None,
    takes: Literal["text", "text and prompt", "texts and prompts"] = "text",
) -> Callable[[Callable[..., Any]], FeatureFunction]:
    """Make a labeling function that votes by the difference of what a function says of each response.

    Examples
    --------
    >>> @feature_function(least=2)
    ... def headings(text):
    ...     return sum(line.startswith("#") for line in text.splitlines())
    >>> headings.window
    Window(least=2, most=inf)
    """
    if prefers not in get_args(Prefers):
        raise DataError(
            "a feature has no such preference",
            where=f"@feature_function(prefers={prefers!r})",
            expected=" or ".join(get_args(Prefers)),
            got=repr(prefers),
        )

    def made(of: Callable[..., Any]) -> FeatureFunction:
        feature = Feature(name or of.__name__, _Named(of), takes, kept=False)
        return FeatureFunction(feature, Window(least, most), prefers)

    return made


@dataclass(frozen=True)
class _Named:
    """A decorated function, found again by another process through what now bears its name."""

    function: Callable[..., Any] = field(repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str, str | None]]:
        module = self.function.__module__
        return _inside, (module, self.function.__qualname__, file_of(module))


def _inside(module: str, name: str, path: str | None = None) -> Any:
    found = named_object(module, name, path)
    return found.feature.compute if isinstance(found, FeatureFunction) else found
