"""Many small values in few bytes: 64-bit hashes, and arrays that numpy reads without copying."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

_MASK = (1 << 64) - 1


def hashed(*parts: Any) -> int:
    """Return 64 bits of the parts, equal within one process only."""
    return hash(parts) & _MASK


def flat(values: array[Any]) -> np.ndarray:
    """View an array without copying."""
    return np.frombuffer(values, dtype=values.typecode) if len(values) else np.zeros(0, dtype=values.typecode)
