"""Rationales where nobody wrote any: the words of a text that speak for a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assay.errors import DataError
from assay.feedback.tasks.task import Example, Task

_TOKEN = r"(?u)\w+"


class TellingWords:
    """Quotes the words of an example's texts that speak most for a label, by a bag of words of what teaches.

    They are about the example, and they argue for any label with what there is. Where a label is right its words are
    stronger, so two sides with their own words would tell which is right without the text: pairs that hinge on the
    label borrow them (`assay.feedback.tasks.rationales.Borrowed`), as they do with people's.

    Parameters
    ----------
    task
        With the same labels for all examples.
    examples
        What the bag of words is fitted on.
    most
        Words that are quoted, at most.

    Raises
    ------
    DataError
        If no word is in two of the examples, or there are fewer than two labels.
    """

    name = "words"

    def __init__(self, task: Task, examples: Sequence[Example], most: int = 3) -> None:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression

        self.most = most
        self._bag = CountVectorizer(token_pattern=_TOKEN, binary=True, min_df=2)
        labels = [one.label for one in examples]
        try:
            counts = self._bag.fit_transform([_text(one) for one in examples])
            model = LogisticRegression(class_weight="balanced", max_iter=500).fit(counts, labels)
        except ValueError as error:
            raise DataError(
                "no words tell the labels apart",
                where=task.name,
                expected="two labels and words that are in two examples at least, in what teaches",
                got=f"{len(labels)} examples, {len(set(labels))} labels",
                remedy="--rationales templates",
            ) from error
        weights = np.asarray(model.coef_)
        if len(weights) == 1:
            weights = np.vstack([-weights[0], weights[0]])
        self._weights = dict(zip(model.classes_.tolist(), weights, strict=True))

    def __call__(self, examples: Sequence[Example], labels: Sequence[str]) -> list[str | None]:
        """Quote the words, the strongest first; None where no word speaks for the label."""
        words = self._bag.get_feature_names_out()
        counts = self._bag.transform([_text(one) for one in examples])
        found = list[str | None]()
        for row, label in enumerate(labels):
            present = counts.indices[counts.indptr[row] : counts.indptr[row + 1]]
            weights = self._weights.get(label)
            if weights is None:
                found.append(None)
                continue
            best = present[np.argsort(-weights[present], kind="stable")][: self.most]
            told = [str(words[k]) for k in best if weights[k] > 0]
            # the label is not named, so that a last line with another one is no contradiction in itself
            found.append(f"The words that tell are {', '.join(told)}." if told else None)
        return found

    def explain(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples with words for their right labels in place of rationales."""
        told = self(examples, [one.label for one in examples])
        return [
            replace(one, rationales={} if why is None else {one.label: (why,)})
            for one, why in zip(examples, told, strict=True)
        ]


def _text(example: Example) -> str:
    return "\n".join(example.texts.values())
