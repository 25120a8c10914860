"""What a transform of judgements did, and the way of changed judgements back into the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from assay.errors import DataError
from assay.feedback.pairs import Pairs


@dataclass(frozen=True)
class Change:
    """What a transform did.

    Attributes
    ----------
    name
        Of the transform, with its settings.
    before
        Judgements that it was given.
    changed, dropped, appended
        How many of them have another p, m or w; are gone; are new.
    turned
        How many now prefer the other response.
    figures
        Whatever else it tells, for reports.
    """

    name: str
    before: int
    changed: int
    dropped: int
    appended: int
    turned: int
    figures: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """Return one line for the terminal."""
        parts = [f"{self.changed} changed"]
        for count, word in ((self.turned, "turned round"), (self.dropped, "dropped"), (self.appended, "appended")):
            parts += [f"{count} {word}"] if count else []
        return f"{self.name}: of {self.before} judgements {', '.join(parts)}"


def change(name: str, before: Pairs, after: Pairs, figures: Mapping[str, Any] | None = None) -> Change:
    """Compare judgements before and after a transform, by their ids."""
    _, old, new = np.intersect1d(before.id, after.id, return_indices=True)
    # swapped judgements say the same in another order
    same_order = (before.a[old] == after.a[new]) & (before.b[old] == after.b[new])
    p = np.where(same_order, after.p[new], 1.0 - after.p[new])
    m = np.where(same_order, after.m[new], -after.m[new])
    # a swap there and back moves p by a rounding error
    same = [np.isclose(x, y, rtol=0, atol=1e-12) for x, y in ((p, before.p[old]), (m, before.m[old]))]
    differs = ~(same[0] & same[1] & (after.w[new] == before.w[old]))
    turned = (p - 0.5) * (before.p[old] - 0.5) < 0
    return Change(
        name,
        before=len(before),
        changed=int(differs.sum()),
        dropped=len(before) - len(old),
        appended=len(after) - len(new),
        turned=int(turned.sum()),
        figures=dict(figures or {}),
    )


def with_pairs(data: Dataset, new: Pairs) -> Dataset:
    """Return the same records with other judgements; a record may end up with none.

    Raises
    ------
    DataError
        If a judgement names a record or response that is not there, or p, m or w are out of range.
    """
    _check(data, new)
    order = np.argsort(new.row, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(new.row, minlength=len(data)))])
    listed = new.take(order)
    columns = {
        "a": pa.array(listed.a, pa.int32()),
        "b": pa.array(listed.b, pa.int32()),
        **{name: pa.array(getattr(listed, name), pa.float64()) for name in ("p", "m", "w")},
        **{name: pa.array(list(getattr(listed, name)), pa.string()) for name in ("source", "annotator")},
        "confidence": pa.array(listed.confidence, pa.float64(), mask=np.isnan(listed.confidence)),
        "round": pa.array(listed.round, pa.int32(), mask=listed.round < 0),
    }
    structs = pa.StructArray.from_arrays(list(columns.values()), names=list(columns))
    edges = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), structs)
    feature = data.features["edges"]
    names = data.column_names
    plain = data.remove_columns(["edges"]).add_column("edges", edges, feature=feature)
    return plain.select_columns(names)


def _check(data: Dataset, new: Pairs) -> None:
    table = data.select_columns(["responses"]).with_format("arrow")[:]
    responses = pc.list_value_length(table["responses"]).fill_null(0).to_numpy().astype(np.int64)
    for name, bad, expected in (
        ("p", ~((new.p >= 0) & (new.p <= 1)), "a probability from 0 to 1"),
        ("m", ~np.isfinite(new.m), "a finite margin"),
        ("w", ~((new.w >= 0) & np.isfinite(new.w)), "a weight of 0 or above"),
    ):
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"a judgement has an impossible {name}",
                where=f"record {new.row[at]}, responses {new.a[at]} and {new.b[at]}" + _more(bad),
                expected=expected,
                got=str(getattr(new, name)[at]),
            )
    inside = (new.row >= 0) & (new.row < len(data))
    lost = ~inside
    high, low = np.maximum(new.a, new.b)[inside], np.minimum(new.a, new.b)[inside]
    lost[inside] = (high >= responses[new.row[inside]]) | (low < 0) | (high == low)
    if lost.any():
        at = int(np.flatnonzero(lost)[0])
        raise DataError(
            "a judgement names what is not there",
            where=f"record {new.row[at]}" + _more(lost),
            expected=f"one of {len(data)} records, and two of its responses",
            got=f"responses {new.a[at]} and {new.b[at]}",
        )


def _more(bad: np.ndarray) -> str:
    return f" and {int(bad.sum()) - 1} more" if bad.sum() > 1 else ""
