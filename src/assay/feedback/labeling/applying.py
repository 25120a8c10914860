"""From pairs and labeling functions to a matrix of votes, batch by batch."""

from __future__ import annotations

import pickle
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from assay.errors import DataError
from assay.feedback.labeling.checking import check_order
from assay.feedback.labeling.feature_store import folder_of, keep_values, kept_values
from assay.feedback.labeling.features import Feature, joined
from assay.feedback.labeling.functions import Batch, FeatureFunction, LabelingFunction, MarginFunction
from assay.feedback.labeling.pairing import ResponsePairs
from assay.feedback.labeling.texts import BATCH_RECORDS, Texts, batches, first_responses

#: Called now and then with the number of records done, and of all.
Progress = Callable[[int, int], None]

_TRIED = 200  # pairs on which each function that compares texts itself is tried in both orders


@dataclass(frozen=True)
class Votes:
    """The votes of m functions on E pairs.

    Attributes
    ----------
    pairs
        What was voted on.
    names
        Of the functions.
    votes
        int8 ``[E, m]``: +1 the first response, -1 the second, 0 abstained. Column after column in memory.
    seconds
        What each function took, all processes together; 0 for features that were kept from a former run.
    """

    pairs: ResponsePairs
    names: list[str]
    votes: np.ndarray
    seconds: dict[str, float] = field(default_factory=dict)

    def take(self, index: np.ndarray) -> Votes:
        """Return the votes on the pairs at ``index`` (positions or a mask)."""
        return Votes(self.pairs.take(index), self.names, self.votes[index], self.seconds)

    def without(self, names: Sequence[str]) -> Votes:
        """Return the votes of the other functions."""
        kept = [j for j, name in enumerate(self.names) if name not in names]
        return Votes(self.pairs, [self.names[j] for j in kept], self.votes[:, kept], self.seconds)


def apply(
    functions: Sequence[LabelingFunction],
    pairs: ResponsePairs,
    *,
    workers: int = 1,
    cache_dir: str | Path | None = None,
    keep: bool = True,
    progress: Progress | None = None,
) -> Votes:
    """Let each function vote on each pair. Every feature is computed once per response, whoever compares it.

    Parameters
    ----------
    functions
        With names of their own.
    pairs
        What to vote on; see `response_pairs`.
    workers
        Processes that compute features and votes; with several, functions must be picklable.
    cache_dir
        Where features of texts are kept, so that another run with other windows need not compute them again; default:
        ``assay`` in the cache folder of ``datasets``.
    keep
        Whether to keep them, and to use those kept before.

    Raises
    ------
    DataError
        If a function raises, returns no vote, or does not say the opposite when responses change places; if two have
        one name, or there are none.
    """
    names = [function.name for function in functions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise DataError(
            "labeling functions need names of their own" if twice else "there is no labeling function",
            expected="one or more functions, all named differently",
            got=", ".join(twice) or "none",
        )
    done = compute(functions, pairs, workers=workers, cache_dir=cache_dir, keep=keep, progress=progress)
    votes = np.zeros((len(pairs), len(names)), np.int8, order="F")
    seconds = dict(done.seconds)
    for j, function in enumerate(functions):
        started = time.perf_counter()
        if isinstance(function, FeatureFunction):
            votes[:, j] = function.votes_by(done.values[function.feature.key], done.first, done.second)
        else:
            votes[:, j] = done.votes[function.name]
        seconds[function.name] += time.perf_counter() - started
    return Votes(pairs, names, votes, seconds)


@dataclass(frozen=True)
class Computed:
    """What functions need to vote, and the votes of those that compare texts themselves.

    Attributes
    ----------
    values
        Key of a feature -> its value of every response, float64 ``[N]``.
    votes
        Name of a function -> its votes, int8 ``[E]``.
    first, second
        int64 ``[E]``: the two responses of each pair, among all N.
    seconds
        Name of a function -> what it took, all processes together.
    """

    values: dict[str, np.ndarray]
    votes: dict[str, np.ndarray]
    first: np.ndarray
    second: np.ndarray
    seconds: dict[str, float]


def compute(
    functions: Sequence[LabelingFunction],
    pairs: ResponsePairs,
    *,
    workers: int = 1,
    cache_dir: str | Path | None = None,
    keep: bool = True,
    progress: Progress | None = None,
) -> Computed:
    """Go through all texts once: compute the features, each once, and let the other functions vote; see `apply`."""
    others = [function for function in functions if not isinstance(function, FeatureFunction)]
    feature_of = {function.name: function.feature for function in functions if isinstance(function, FeatureFunction)}
    features = joined(list(feature_of.values()))
    folder = folder_of(pairs.data, features, cache_dir) if keep else None
    values = {feature.key: found for feature in features if (found := kept_values(folder, feature)) is not None}
    missing = [feature for feature in features if feature.key not in values]
    seconds: dict[str, float] = defaultdict(float)
    offsets = first_responses(pairs.data)
    computed = {feature.key: np.empty(offsets[-1]) for feature in missing}
    votes = {function.name: np.zeros(len(pairs), np.int8) for function in others}
    for done in _passes(pairs, missing, others, workers):
        for key, found in done.values.items():
            computed[key][done.begin : done.begin + len(found)] = found
        for name, found in done.votes.items():
            votes[name][done.pairs] = found
        for name, took in done.seconds.items():
            seconds[name] += took
        if progress is not None:
            progress(done.records, len(pairs.data))
    for feature in missing:
        keep_values(folder, feature, computed[feature.key])
    took_by = {name: seconds[feature.key] for name, feature in feature_of.items()}
    took_by |= {function.name: seconds[function.name] for function in others}
    first, second = offsets[pairs.row] + pairs.first, offsets[pairs.row] + pairs.second
    return Computed(values | computed, votes, first, second, took_by)


@dataclass(frozen=True)
class _Job:
    """One batch: what is to be computed of it, and the pairs that lie in it."""

    begin: int
    records: int
    texts: Texts
    features: list[Feature]
    functions: list[LabelingFunction]
    pairs: np.ndarray
    batch: Batch | None


@dataclass(frozen=True)
class _Done:
    begin: int
    records: int
    pairs: np.ndarray
    values: dict[str, np.ndarray]
    votes: dict[str, np.ndarray]
    seconds: dict[str, float]


def _passes(
    pairs: ResponsePairs, features: list[Feature], functions: list[LabelingFunction], workers: int
) -> Iterator[_Done]:
    """Go through all batches with what can be sent to other processes, then once more with what holds a model."""
    for here in (False, True):
        own_features = [feature for feature in features if feature.here == here]
        own_functions = [function for function in functions if function.here == here]
        if own_features or own_functions:
            yield from _worked(_jobs(pairs, own_features, own_functions), 1 if here else workers)


def _jobs(pairs: ResponsePairs, features: list[Feature], functions: list[LabelingFunction]) -> Iterator[_Job]:
    offsets = first_responses(pairs.data)
    stop = 0
    for inside, (begin, texts) in zip(pairs.by_batch(BATCH_RECORDS), batches(pairs.data), strict=True):
        stop = min(stop + BATCH_RECORDS, len(pairs.data))
        batch = None
        if functions:
            local = offsets[pairs.row[inside]] - begin
            batch = Batch(texts, local + pairs.first[inside], local + pairs.second[inside])
        yield _Job(begin, stop, texts, features, functions, inside, batch)


def _work(job: _Job) -> _Done:
    values, votes, seconds = {}, {}, {}
    for feature in job.features:
        started = time.perf_counter()
        values[feature.key] = feature.values(job.texts)
        seconds[feature.key] = time.perf_counter() - started
    for function in job.functions:
        assert job.batch is not None
        if job.begin == 0 and not isinstance(function, MarginFunction):  # which is right by itself
            check_order(function, Batch(job.batch.texts, job.batch.first[:_TRIED], job.batch.second[:_TRIED]))
        started = time.perf_counter()
        votes[function.name] = _votes_of(function, job.batch)
        seconds[function.name] = time.perf_counter() - started
    return _Done(job.begin, job.records, job.pairs, values, votes, seconds)


def _votes_of(function: LabelingFunction, batch: Batch) -> np.ndarray:
    """Return the votes of a function, whoever wrote its class; what is no vote is named."""
    found = np.asarray(function.votes(batch))
    if found.shape != (len(batch),) or not np.isin(found, (-1, 0, 1)).all():
        raise DataError(
            "there is one vote per pair: 1, -1 or 0",
            where=f"labeling function {function.name}",
            expected=f"{len(batch)} votes",
            got=f"shape {list(found.shape)}, values from {found.min(initial=0)!r} to {found.max(initial=0)!r}",
        )
    return found.astype(np.int8)


def _check_sendable(job: _Job) -> None:
    """Raise DataError, with its name, for the first feature or function that other processes could not get."""
    sent: list[Feature | LabelingFunction] = [*job.features, *job.functions]
    for each in sent:
        try:
            pickle.dumps(each)
        except Exception as error:
            raise DataError(
                "it cannot be sent to another process",
                where=f"labeling function {each.name}",
                expected="functions at the top level of a file, under the name that they are given there",
                got=str(error).splitlines()[0][:200],
                remedy="move it there, or use one process (--workers 1)",
            ) from error


def _worked(jobs: Iterator[_Job], workers: int) -> Iterator[_Done]:
    """Work through the jobs, a few at a time in other processes; what is not yet needed is not yet read."""
    if workers <= 1:
        yield from map(_work, jobs)
        return
    first = next(jobs, None)
    if first is None:
        return
    _check_sendable(first)
    jobs = chain([first], jobs)
    with ProcessPoolExecutor(workers) as pool:
        waiting: deque[Future[_Done]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(_work, job))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
