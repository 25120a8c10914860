"""LLMBar (Zeng et al. 2024): one of two outputs follows the instruction; natural and adversarial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from assay.evaluation.benchmarks.items import Item, Line, Scored, by_subset, mean, prompt_of, text_of
from assay.feedback.problems import RowError

NATURAL = "Natural"
ADVERSARIAL = ("Neighbor", "GPTInst", "GPTOut", "Manual")


def item(row: Mapping[str, Any], place: str) -> Item:
    """Read ``input``, ``output_1``, ``output_2`` and ``label`` (1 or 2); the subset is the folder of the file."""
    label = row.get("label")
    if str(label) not in ("1", "2"):
        raise RowError("no label", column="label", expected="1 or 2", got=repr(label)[:60])
    one, other = text_of(row, "output_1"), text_of(row, "output_2")
    better, worse = (one, other) if str(label) == "1" else (other, one)
    path = PurePath(place)
    subset = str(row.get("subset") or (path.parent.name if path.stem == "dataset" else path.name.partition(".")[0]))
    return Item(prompt_of(row, "input"), [better], [worse], subset, str(row.get("id", "")))


def table(scored: Sequence[Scored]) -> list[Line]:
    """Return the share of right choices by subset, the mean of the adversarial ones, and that of all five."""
    parts = by_subset(scored)
    right = {name: float(np.mean([one.margins[0, 0] > 0 for one in some])) for name, some in parts.items()}
    lines = [Line(NATURAL, right[NATURAL], len(parts[NATURAL]), 1)] if NATURAL in parts else []
    held = [name for name in ADVERSARIAL if name in parts]
    if held:
        lines.append(
            Line("Adversarial", mean([right[name] for name in held]), sum(len(parts[name]) for name in held), 1)
        )
    lines += [Line(name, right[name], len(parts[name])) for name in held]
    others = [name for name in parts if name != NATURAL and name not in ADVERSARIAL]
    lines += [Line(name, right[name], len(parts[name])) for name in others]
    published = [name for name in (NATURAL, *ADVERSARIAL) if name in parts] or list(parts)
    count = sum(len(parts[name]) for name in published)
    return [Line("Average", mean([right[name] for name in published]), count, 0), *lines]
