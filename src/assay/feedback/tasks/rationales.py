"""Where rationales come from: one source writes those of both sides of a pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from assay.feedback.tasks.task import Example, Task, as_rationale


class RationaleSource(Protocol):
    """Writes why an example should have a label."""

    @property
    def name(self) -> str:
        """For records and reports."""
        ...

    def __call__(self, examples: Sequence[Example], labels: Sequence[str]) -> list[str | None]:
        """Return a rationale for each example and label; None where there is none."""
        ...


@dataclass(frozen=True)
class NoRationale:
    """Labels alone."""

    name: str = "none"

    def __call__(self, examples: Sequence[Example], labels: Sequence[str]) -> list[str | None]:
        """Return empty rationales."""
        return [""] * len(labels)


@dataclass(frozen=True)
class Templates:
    """The same sentences for every label, chosen at random: they argue for it and tell nothing else.

    Attributes
    ----------
    sentences
        With ``{label}`` and names of the example's texts in braces.
    seed
        Of the choice, which does not depend on the label.
    """

    sentences: tuple[str, ...] = (
        "What is said here fits {label} best.",
        "Read as a whole, this points to {label}.",
        "The words that matter speak for {label}.",
    )
    seed: int = 0
    name: str = "templates"

    def __call__(self, examples: Sequence[Example], labels: Sequence[str]) -> list[str | None]:
        """Write them."""
        random = np.random.default_rng(self.seed)
        drawn = {one.group: int(random.integers(len(self.sentences))) for one in examples}
        return [
            self.sentences[drawn[one.group]].format(label=label, **one.texts)
            for one, label in zip(examples, labels, strict=True)
        ]


@dataclass(frozen=True)
class Written:
    """What people wrote for this example and this label; most sets explain the right label only."""

    name: str = "human"

    def __call__(self, examples: Sequence[Example], labels: Sequence[str]) -> list[str | None]:
        """Return the first of each."""
        return [next(iter(one.rationales.get(label, ())), None) for one, label in zip(examples, labels, strict=True)]


class Borrowed:
    """What people wrote for the same label of another example: people's words on both sides, and about neither text.

    A model that reads the example can tell that they belong elsewhere, on both sides alike.

    Parameters
    ----------
    pool
        Examples with rationales; of one share only.
    seed
        Of the draws.
    name
        For reports.
    any_label
        Whether words for other labels do too: where every example has its own, no other has the same.
    """

    def __init__(
        self, pool: Sequence[Example], seed: int = 0, name: str = "borrowed", *, any_label: bool = False
    ) -> None:
        self.name, self.seed, self.any_label = name, seed, any_label
        self._by_label: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for one in pool:
            for label, many in one.rationales.items():
                self._by_label["" if any_label else label] += [(one.group, text) for text in many]

    def __call__(self, examples: Sequence[Example], labels: Sequence[str]) -> list[str | None]:
        """Draw one of another group for each."""
        random, found = np.random.default_rng(self.seed), list[str | None]()
        for one, label in zip(examples, labels, strict=True):
            others = self._by_label.get("" if self.any_label else label, [])
            drawn = [others[k] for k in random.integers(len(others), size=8)] if others else []
            found.append(next((text for group, text in drawn if group != one.group), None))
        return found


class Remembered:
    """A source that is asked once for each example and label, so that all kinds of pairs argue alike.

    Parameters
    ----------
    source
        Asked for what is new; by itself it may answer anew every time.
    """

    def __init__(self, source: RationaleSource) -> None:
        self.source, self.name = source, source.name
        self._known: dict[Any, str | None] = {}

    def __call__(self, examples: Sequence[Example], labels: Sequence[str]) -> list[str | None]:
        """Return what was said before, or ask."""
        keys = [(one.group, *sorted(one.texts.items()), label) for one, label in zip(examples, labels, strict=True)]
        new = {key: k for k, key in enumerate(keys) if key not in self._known}
        if new:
            rows = list(new.values())
            said = self.source([examples[k] for k in rows], [labels[k] for k in rows])
            self._known |= dict(zip(new, said, strict=True))
        return [self._known[key] for key in keys]


@dataclass(frozen=True)
class Generated:
    """A model that writes for the label it is told.

    Attributes
    ----------
    task
        How the example is asked.
    write
        Prompts -> texts.
    name
        Of the model.
    template
        Way to ask.
    """

    task: Task
    write: Callable[[list[str]], list[str]]
    name: str = "generated"
    template: int = 0

    def __call__(self, examples: Sequence[Example], labels: Sequence[str]) -> list[str | None]:
        """Ask for all of them at once; what is empty is no rationale."""
        asked = [self.task.ask_why(one, label, self.template) for one, label in zip(examples, labels, strict=True)]
        return [as_rationale(text) or None for text in self.write(asked)]
