"""What a share of the data teaches, and what was done to it on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from assay.feedback import Pairs
from assay.feedback.changes import Change, change
from assay.scorers.encoding import EncodedRecords
from assay.training.records import TrainingRecords
from assay.workflows.telling import notes


@dataclass(frozen=True)
class Prepared:
    """What a share of the data teaches.

    Attributes
    ----------
    records
        With the judgements as transformed.
    grades
        One per text, in score units, for objectives of graded responses; else None.
    changes
        What each transform did.
    fixed
        What a share that is held out takes over from this one: where gaps come from, gamma, the scale of grades.
    figures
        What else is to be reported.
    features
        The backbone's states of the texts, ``[texts, d]``, where something looks at them.
    attributes
        Standardised grades by dimension, ``[texts, A]``, for heads that learn them; else None.
    """

    records: EncodedRecords
    grades: np.ndarray | None = None
    changes: tuple[Change, ...] = ()
    fixed: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    features: np.ndarray | None = None
    attributes: np.ndarray | None = None

    def after(self, name: str, pairs: Pairs, **figures: Any) -> Prepared:
        """Return the same with other judgements, and what was done told."""
        told = change(name, self.records.pairs, pairs, figures)
        return replace(self, records=replace(self.records, pairs=pairs), changes=(*self.changes, told))

    def noting(self, more: dict[str, Any]) -> Prepared:
        """Return the same with more to report."""
        return replace(self, figures={**self.figures, **more})

    def learned(self, features: np.ndarray) -> TrainingRecords:
        """Return what heads on these features learn from."""
        return replace(self.taught(), features=features)

    def taught(self, pad_id: int = 0, *, with_classes: bool = False) -> TrainingRecords:
        """Return what a model learns from."""
        return TrainingRecords(
            self.records, pad_id, grades=self.grades, attributes=self.attributes, with_classes=with_classes
        )

    def report(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"changes": [asdict(each) for each in self.changes], **self.figures}

    def lines(self) -> list[str]:
        """Return what was done and found, for the terminal and the report."""
        told = [line for each in self.changes for line in (each.line(), *notes(each.figures))]
        return [*told, *notes(self.figures)]
