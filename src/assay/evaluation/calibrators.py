"""The calibrations that a model may carry, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from assay.evaluation.calibration import Temperature, fit_temperature
from assay.evaluation.isotonic import Isotonic, Platt, fit_isotonic

#: Of margins; `Platt` was fitted on single responses, where no pair was judged.
Calibration = Temperature | Isotonic | Platt
CalibrationKind = Literal["temperature", "isotonic"]


def fit_calibration(
    delta: np.ndarray, p: np.ndarray, w: np.ndarray | None = None, kind: CalibrationKind = "temperature"
) -> Calibration:
    """Fit the calibration of that name; see `fit_temperature` and `fit_isotonic`.

    Raises
    ------
    DataError
        If there is no judgement of positive weight.
    """
    return fit_temperature(delta, p, w) if kind == "temperature" else fit_isotonic(delta, p, w)


def stored_form(fitted: Calibration, method: str) -> dict[str, Any]:
    """Return what a model keeps of its calibration: plain values, and how it was fitted."""
    values = fitted.to_dict()
    if isinstance(fitted, Temperature):
        return {"kind": "temperature", "temperature": values.pop("value"), "method": method, **values}
    return {"kind": "isotonic" if isinstance(fitted, Isotonic) else "platt", "method": method, **values}


def from_stored(stored: Mapping[str, Any]) -> Calibration:
    """Rebuild a calibration from its `stored_form`."""
    values = {name: value for name, value in stored.items() if name not in ("kind", "method")}
    kind = stored.get("kind", "temperature")
    if kind == "temperature":
        return Temperature.from_dict({"value": values.pop("temperature"), **values})
    return Isotonic.from_dict(values) if kind == "isotonic" else Platt.from_dict(values)
