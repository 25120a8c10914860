"""The hierarchical bootstrap of studies: seeds are drawn again, and within them whole split groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

RESAMPLES = 4000
_DRAWS_AT_ONCE = 100


@dataclass(frozen=True)
class GroupSums:
    """Weighted terms of several quantities, summed within split groups.

    Attributes
    ----------
    sums
        float64 ``[K, S, G]``: of each quantity, seed and group.
    mass
        float64 ``[S, G]``: the weight of the judgements that a seed was tested on, the same for all quantities.
    """

    sums: np.ndarray
    mass: np.ndarray

    @classmethod
    def of(cls, terms: np.ndarray, weight: np.ndarray, groups: np.ndarray) -> GroupSums:
        """Sum ``terms`` ``[K, S, E]`` (NaN where a seed did not test a judgement, the same ones for every quantity).

        Parameters
        ----------
        terms
            Hits, losses, or differences of two scorers.
        weight
            ``[E]``, at least 0.
        groups
            ``[E]``: split group of each judgement.
        """
        names, codes = np.unique(groups, return_inverse=True)
        place = csr_array((weight, (np.arange(len(codes)), codes)), shape=(len(codes), len(names)))
        there = np.isfinite(terms[0])
        known = np.where(np.isfinite(terms), terms, 0.0).reshape(-1, len(codes))
        sums = np.asarray(known @ place).reshape(*terms.shape[:2], len(names))
        return cls(sums, np.asarray(there.astype(float) @ place))

    def means(self) -> np.ndarray:
        """Return the weighted mean of each quantity, ``[K]``."""
        return np.asarray(self.sums.sum(axis=(1, 2)) / self.mass.sum())

    def resampled(self, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
        """Return the means of each resample, ``[resamples, K]``; those that drew nothing are left out.

        The same draw serves all quantities, and the same draw of groups all seeds of a resample, since they share the
        test set.
        """
        seeds, groups = self.mass.shape
        flat, mass = self.sums.reshape(len(self.sums), -1).T, self.mass.ravel()
        random = np.random.default_rng(seed)
        found = []
        for start in range(0, resamples, _DRAWS_AT_ONCE):
            drawn = [
                np.outer(_times(random, seeds), _times(random, groups)).ravel()
                for _ in range(min(_DRAWS_AT_ONCE, resamples - start))
            ]
            times = np.stack(drawn).astype(float)
            total = times @ mass
            found.append((times @ flat)[total > 0] / total[total > 0, None])
        return np.concatenate(found)


def _times(random: np.random.Generator, count: int) -> np.ndarray:
    """Draw as many as there are, with replacement; return how often each was drawn."""
    return np.bincount(random.integers(0, count, count), minlength=count)
