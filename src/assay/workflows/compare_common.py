"""What the ways of comparing policies share: what was written, who wins by given margins, and the folder of results."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.errors import ConfigError, ModelError
from assay.evaluation.policies import win_rate
from assay.evaluation.report import now, page_environment
from assay.output import as_bytes, new_folder, write_atomic, write_json
from assay.scorers import Policy, provenance
from assay.scorers.folders import find_folder
from assay.scorers.policy_loading import policy_from
from assay.scorers.provenance import Provenance
from assay.scorers.sampling import Reply
from assay.versions import current_versions
from assay.workflows import hardware
from assay.workflows.compare_settings import CompareSettings

PRINCIPLE = "Which response is better: more helpful, honest and harmless?"


@dataclass(frozen=True)
class Written:
    """What one policy answered.

    Attributes
    ----------
    name
        Of the policy.
    replies
        One list per prompt.
    """

    name: str
    replies: list[list[Reply]]

    @property
    def flat(self) -> list[Reply]:
        """Replies prompt by prompt."""
        return [reply for own in self.replies for reply in own]

    @property
    def texts(self) -> list[str]:
        """Their texts."""
        return [reply.text for reply in self.flat]


def began_as(name: str) -> str:
    """Return what a policy was before training, as its folder tells.

    Raises
    ------
    ConfigError
        If it does not.
    """
    folder = find_folder(name) if Path(name).expanduser().exists() else None
    if folder is not None and os.path.exists(os.path.join(folder, provenance.FILE)):
        base = Provenance.read(folder).policy.get("base")
        if base:
            return str(base)
    raise ConfigError(
        "nothing tells what this policy was before training",
        where=name,
        expected="a run of assay align",
        remedy="--against MODEL",
    )


def writer(settings: CompareSettings, name: str) -> Policy:
    """Load a policy that answers."""
    return policy_from(name, settings.max_length_tokens).to(hardware.best_device())


def win_rates(
    name: str, margin: np.ndarray, ours: list[str], theirs: list[str], groups: np.ndarray, resamples: int
) -> dict[str, Any]:
    """Say how often ours are preferred; what was not answered (NaN) counts nowhere.

    Parameters
    ----------
    name
        Of who prefers.
    margin
        ``[n]``: above 0 where ours is preferred.
    ours, theirs, groups
        Texts, and what is resampled together.
    resamples
        Of the bootstrap.

    Raises
    ------
    ModelError
        If nothing was answered.
    """
    known = ~np.isnan(margin)
    if not known.any():
        raise ModelError("the judge answered nothing", where=name, remedy="look at what it says, or name another")
    preferred = np.where(margin[known] == 0, 0.5, (margin[known] > 0).astype(float))
    own, other = (np.array([len(text) for text in side])[known] for side in (ours, theirs))
    return win_rate(preferred, own, other, groups[known], resamples=resamples).to_dict()


def word_of(margin: float) -> str:
    """Name who is preferred."""
    return "neither" if margin == 0 or np.isnan(margin) else "policy" if margin > 0 else "against"


def counts(flat: list[Reply]) -> dict[str, Any]:
    """Count what was written."""
    return {
        "responses": len(flat),
        "ended": sum(reply.ended for reply in flat),
        "empty": sum(not reply.text.strip() for reply in flat),
        "mean_characters": float(np.mean([len(reply.text) for reply in flat])),
        "mean_tokens": float(np.mean([len(reply.ids) - reply.start for reply in flat])),
    }


def finish(
    settings: CompareSettings,
    told: dict[str, Any],
    rows: list[dict[str, Any]],
    pairs: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write samples (and pairs), metrics and report, whole or not at all; return what ``metrics.json`` holds."""
    told |= {"seed": settings.seed, "settings": settings.model_dump(mode="json"), "versions": current_versions()}
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        for name, lines in (("samples.jsonl", rows), ("pairs.jsonl", pairs)):
            if lines is not None:
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
                (folder / name).write_bytes(as_bytes(text))
        write_json(folder / "metrics.json", told)
        page = page_environment().get_template("policies.html.j2")
        write_atomic(folder / "report.html", page.render(told=told, rows=rows[: settings.shown], created=now()))
    return told
