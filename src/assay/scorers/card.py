"""The model card: what a reward model is, how to use it, and how far to trust it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.scorers.reward_model import RewardModel


def write_card(path: str | os.PathLike[str], model: RewardModel) -> None:
    """Write ``README.md`` for a model folder from what the model knows about itself."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(card_text(model))


def card_text(model: RewardModel) -> str:
    """Return the card as Markdown with a metadata header."""
    config, record = model.config, model.record
    calibration = record.calibration
    rows: list[tuple[str, Any]] = [
        ("backbone", config.base_model),
        ("pooling", config.pooling if config.layout == "assay" else "of the plain class"),
        ("head", config.head if config.layout == "assay" else "of the plain class"),
        ("template", record.conversation.template),
        ("end token", record.conversation.end_token or "as the template ends"),
        (
            "longest text",
            f"{record.conversation.max_length_tokens} tokens, prompt cut on the {record.conversation.truncation}",
        ),
        ("calibration", _calibration(calibration)),
        *record.data.items(),
    ]
    table = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in rows)
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return f"""---
library_name: assay
pipeline_tag: text-classification
tags: [reward-model, assay]
---

# Reward model

Scores a response to a prompt; the difference of two scores, calibrated, is the log-odds that the first is better.

```python
from assay.scorers import RewardModel

model = RewardModel.from_pretrained("FOLDER")
model.score(["Name a sea."], ["The Baltic."])
model.probability(["Name a sea."], ["The Baltic."], ["A lake."])
```

| | |
|---|---|
{table}

Versions: {versions}
"""


def _calibration(stored: dict[str, Any] | None) -> str:
    if stored is None:
        return "not calibrated"
    if stored.get("kind") == "isotonic":
        return f"isotonic, {len(stored['margin'])} points"
    if stored.get("kind") == "platt":
        return f"of single responses: slope {stored['slope']:.3g}, offset {stored['offset']:.3g}"
    return f"temperature {stored['temperature']:.3g}"
