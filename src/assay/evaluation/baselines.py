"""Two baselines that no reward model may hide from: the length of the response, and a bag of its words.

Both have the interface ``fit(pairs) -> self``, ``delta(pairs) -> [E]``, ``save(folder)``, ``load(folder)`` and are
fitted on the training share only. Files are JSON and NumPy arrays, never pickles.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from zipfile import BadZipFile

import numpy as np

from assay.errors import ModelError
from assay.evaluation.calibration import Temperature, fit_temperature
from assay.evaluation.metrics import decided, nll
from assay.feedback.pairs import Pairs
from assay.output import write_atomic, write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

_BATCH_ROWS = 1000
# scripts that write no spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are counted by character
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = rf"(?u)[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]"
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
_CV_PAIRS = 20_000


class Baseline(Protocol):
    """What ``evaluate`` and a run need from a baseline."""

    name: str

    def fit(self, pairs: Pairs) -> Self:
        """Fit on the training judgements."""

    def delta(self, pairs: Pairs) -> np.ndarray:
        """Return margins of a over b, float64 [E], as logits."""

    def save(self, folder: str | Path) -> None:
        """Write the fitted baseline into ``folder``."""

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote."""


class LengthBaseline:
    """Prefers the longer response: ``delta = log((1 + length_a) / (1 + length_b)) / T``, lengths in characters.

    T is fitted by maximum likelihood and always positive, so that accuracy is that of the plain rule "the longer one
    wins" whatever the training share says; where length says nothing there, P stays near one half.
    """

    name = "length"

    def __init__(self, temperature: Temperature | None = None) -> None:
        self.temperature = temperature

    def fit(self, pairs: Pairs) -> Self:
        """Fit T on the training judgements."""
        self.temperature = fit_temperature(self._log_ratio(pairs), pairs.p, pairs.w)
        return self

    def delta(self, pairs: Pairs) -> np.ndarray:
        """Return margins of a over b, float64 [E]."""
        if self.temperature is None:
            raise ModelError("the length baseline is not fitted", remedy="call fit(pairs) with the training judgements")
        return self.temperature.apply(self._log_ratio(pairs))

    def save(self, folder: str | Path) -> None:
        """Write ``length.json``."""
        if self.temperature is None:
            raise ModelError("the length baseline is not fitted", remedy="call fit(pairs) before save(folder)")
        write_json(Path(folder) / "length.json", self.temperature.to_dict())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read ``length.json``."""
        return cls(Temperature.from_dict(_read_json(Path(folder) / "length.json")))

    @staticmethod
    def _log_ratio(pairs: Pairs) -> np.ndarray:
        return np.log1p(pairs.length_a) - np.log1p(pairs.length_b)


class BagOfWords:
    """Logistic regression without intercept on the difference of two bags of words (responses only, prompt unseen).

    A response's features are ``log(1 + count)`` of its lower-cased words and punctuation marks, for the ``max_words``
    commonest that at least ``min_responses`` responses contain (one, where no word does); not normalised, so that
    length can be learned too. Where no judgement takes a side or no response holds a word, it knows no words, and every
    margin is 0: a tie.
    ``strength`` (scikit-learn's C) is chosen by held-out likelihood in grouped cross-validation unless given. Soft
    targets enter as two weighted labels; ties are left out.
    """

    name = "bag_of_words"

    def __init__(
        self,
        *,
        max_words: int = 50_000,
        min_responses: int = 2,
        strength: float | None = None,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.max_words, self.min_responses, self.strength = max_words, min_responses, strength
        self.folds, self.seed = folds, seed
        self.words: list[str] = []
        self.weights: np.ndarray | None = None

    def fit(self, pairs: Pairs) -> Self:
        """Fit words and weights on the training judgements."""
        self.words, self.weights = [], np.zeros(0)
        used = np.flatnonzero(decided(pairs.p) & (pairs.w > 0))
        if not len(used):
            return self
        features = self._differences(pairs, fit=True)[used]
        if not self.words:
            return self
        p, w = pairs.p[used], pairs.w[used]
        if self.strength is None:
            self.strength = self._choose_strength(features, p, w, pairs.group[used])
        self.weights = _logistic(features, p, w, self.strength)
        return self

    def delta(self, pairs: Pairs) -> np.ndarray:
        """Return margins of a over b, float64 [E]; words never met in training count nothing."""
        if self.weights is None:
            raise ModelError("the bag of words is not fitted", remedy="call fit(pairs) with the training judgements")
        if not self.words:
            return np.zeros(len(pairs))
        return np.asarray(self._differences(pairs, fit=False) @ self.weights)

    def save(self, folder: str | Path) -> None:
        """Write ``bag_of_words.json`` (settings and words) and ``bag_of_words.npz`` (weights)."""
        if self.weights is None:
            raise ModelError("the bag of words is not fitted", remedy="call fit(pairs) before save(folder)")
        settings = {name: getattr(self, name) for name in ("max_words", "min_responses", "strength", "folds", "seed")}
        packed = io.BytesIO()
        np.savez_compressed(packed, weights=self.weights)
        write_json(Path(folder) / "bag_of_words.json", {"settings": settings, "words": self.words})
        write_atomic(Path(folder) / "bag_of_words.npz", packed.getvalue())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote."""
        stored = _read_json(Path(folder) / "bag_of_words.json")
        made = cls(**stored["settings"])
        made.words = list(stored["words"])
        path = Path(folder) / "bag_of_words.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                made.weights = np.asarray(arrays["weights"], dtype=np.float64)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            remedy = "fit it again: name the training data"
            raise ModelError(f"a stored baseline is damaged: {error}", where=str(path), remedy=remedy) from error
        if made.weights.shape != (len(made.words),):
            raise ModelError(
                "the stored bag of words does not fit together",
                where=str(folder),
                expected=f"one weight for each of {len(made.words)} words",
                got=f"weights of shape {made.weights.shape}",
                remedy="fit it again on the training data",
            )
        return made

    def strongest_words(self, count: int = 10) -> dict[str, list[tuple[str, float]]]:
        """Name the words that speak most for and most against a response, with their weights."""
        if self.weights is None:
            return {"for": [], "against": []}
        order = np.argsort(self.weights, kind="stable")
        ranked = [(self.words[i], float(self.weights[i])) for i in order]
        return {"for": ranked[::-1][:count], "against": ranked[:count]}

    def _vectorizer(self, least: int | None) -> CountVectorizer:
        from sklearn.feature_extraction.text import CountVectorizer

        if least is None:
            return CountVectorizer(token_pattern=_TOKEN, vocabulary=self.words)
        return CountVectorizer(token_pattern=_TOKEN, min_df=least, max_features=self.max_words)

    def _differences(self, pairs: Pairs, *, fit: bool) -> csr_matrix:
        """Return features of a minus features of b, sparse float64 [E, words]."""
        keys, index = _unique_responses(pairs)
        counts = self._count(pairs, keys) if fit else self._vectorizer(None).transform(_texts(pairs, keys))
        features = counts.astype(np.float64).log1p().tocsr()
        return features[index[: len(pairs)]] - features[index[len(pairs) :]]

    def _count(self, pairs: Pairs, keys: np.ndarray) -> csr_matrix:
        """Choose the words and count them, int [responses, words]."""
        from scipy.sparse import csr_matrix

        for least in sorted({min(self.min_responses, len(keys)), 1}, reverse=True):
            vectorizer = self._vectorizer(least)
            try:
                counts = vectorizer.fit_transform(_texts(pairs, keys))
            except ValueError:  # no word is in so many responses
                continue
            self.words = vectorizer.get_feature_names_out().tolist()
            return counts
        return csr_matrix((len(keys), 0))

    def _choose_strength(self, features: csr_matrix, p: np.ndarray, w: np.ndarray, groups: np.ndarray) -> float:
        from sklearn.model_selection import GroupKFold

        if len(p) > _CV_PAIRS:
            sample = np.sort(np.random.default_rng(self.seed).choice(len(p), _CV_PAIRS, replace=False))
            features, p, w, groups = features[sample], p[sample], w[sample], groups[sample]
        labels = np.unique(groups.astype(str), return_inverse=True)[1]
        folds = min(self.folds, len(np.unique(labels)))
        if folds < 2:
            return _STRENGTHS[0]
        losses = np.zeros(len(_STRENGTHS))
        for train, test in GroupKFold(folds).split(features, groups=labels):
            for k, strength in enumerate(_STRENGTHS):
                weights = _logistic(features[train], p[train], w[train], strength)
                losses[k] += nll(features[test] @ weights, p[test], w[test]) * len(test)
        return _STRENGTHS[int(np.argmin(losses))]


def _read_json(path: Path) -> dict[str, Any]:
    remedy = "fit it again: name the training data"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError("a stored baseline is missing", where=str(path), remedy=remedy) from error
    except ValueError as error:
        raise ModelError("a stored baseline is damaged", where=str(path), got=str(error), remedy=remedy) from error
    return found


def _unique_responses(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct (row, response) [N, 2], in row order, and for all a then all b the index into them [2E]."""
    rows = np.concatenate([pairs.row, pairs.row])
    responses = np.concatenate([pairs.a, pairs.b])
    width = int(responses.max(initial=0)) + 1
    keys, index = np.unique(rows * width + responses, return_inverse=True)
    return np.stack([keys // width, keys % width], axis=1), index


def _texts(pairs: Pairs, keys: np.ndarray) -> Iterator[str]:
    """Read the texts of (row, response) keys in order, a batch of records at a time."""
    column = pairs.data.select_columns(["responses"])
    rows, starts = np.unique(keys[:, 0], return_index=True)
    ends = np.append(starts[1:], len(keys))
    for first in range(0, len(rows), _BATCH_ROWS):
        batch = slice(first, first + _BATCH_ROWS)
        responses = column[rows[batch].tolist()]["responses"]
        for texts, start, end in zip(responses, starts[batch], ends[batch], strict=True):
            yield from (texts[k] for k in keys[start:end, 1])


def _logistic(features: csr_matrix, p: np.ndarray, w: np.ndarray, strength: float) -> np.ndarray:
    """Fit weights [words] of P(a better) = sigmoid(features @ weights)."""
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    labels, importance = (p > 0.5).astype(np.int64), w * np.maximum(p, 1 - p)
    soft = np.flatnonzero((p > 0) & (p < 1))
    x = vstack([features, features[soft]]).tocsr()
    y = np.concatenate([labels, 1 - labels[soft]])
    importance = np.concatenate([importance, (w * np.minimum(p, 1 - p))[soft]])
    if len(np.unique(y)) < 2:
        # Exchanging a and b of a judgement leaves the loss unchanged; scikit-learn insists on two classes.
        x, y, importance = vstack([x, -x]).tocsr(), np.concatenate([y, 1 - y]), np.tile(importance / 2, 2)
    model = LogisticRegression(C=strength, fit_intercept=False, solver="lbfgs", max_iter=2000, tol=1e-5)
    model.fit(x, y, sample_weight=importance)
    return np.asarray(model.coef_[0], dtype=np.float64)
