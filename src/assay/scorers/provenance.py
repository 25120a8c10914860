"""What travels with a reward model beside its weights, and the checks that it is still the same model."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from transformers.utils import cached_file

from assay.errors import ModelError
from assay.scorers import backbones
from assay.scorers.conversation import ConversationEncoder, ConversationSettings

FILE = "assay.json"
_FORMAT = 1
_VALUES = 64
_USER = {"role": "user", "content": "Name a sea.  Ein „Satz“ mit Ümläuten, 数字 42!\n\nAnd a line."}
# Conversations whose token ids identify template and tokenizer as they behave, not as their files are written.
_PROBES: tuple[tuple[list[dict[str, Any]], str], ...] = (
    ([_USER], "The Baltic."),
    ([_USER], ""),
    (
        [_USER, {"role": "assistant", "content": "Aral?"}, {"role": "user", "content": "Another."}],
        " The North Sea, 2 x.",
    ),
    ([{"role": "system", "content": "Be brief."}, _USER], "Tyrrhenian"),
)


@dataclass
class Provenance:
    """Everything stored in ``assay.json``.

    Attributes
    ----------
    conversation
        How conversations become tokens.
    fingerprint
        Hashes of the probes' token ids and of the head's weights; ``base``: of the weights under an adapter.
    score
        Mean and standard deviation of raw scores, the means of several members, and ``preferred`` and
        ``rejected``: quantiles of the scores of responses that held-out judgements prefer and do not; or None.
    calibration
        A temperature and how it was fitted, or None.
    data
        Data card: what the model was trained on, in numbers.
    versions
        Libraries at training time.
    prototypes
        Of a head that has them: class, use, and nearest training responses of each.
    policy
        Of a policy: what its scores are made of, and the reference that it was compared with.
    """

    conversation: ConversationSettings
    fingerprint: dict[str, str] = field(default_factory=dict)
    score: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    prototypes: list[dict[str, Any]] = field(default_factory=list)
    policy: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``assay.json`` into ``folder``."""
        with open(os.path.join(folder, FILE), "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, **asdict(self)}, file, indent=2, ensure_ascii=False)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Provenance:
        """Read ``assay.json``.

        Raises
        ------
        ModelError
            If the file is missing or is not what `write` wrote.
        """
        path = os.path.join(folder, FILE)
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            if content.pop("format") != _FORMAT:
                raise ValueError("unknown format number")
            return cls(**{**content, "conversation": ConversationSettings(**content["conversation"])})
        except FileNotFoundError as error:
            raise ModelError(
                f"{FILE} is missing: template, end token and truncation are unknown",
                where=str(folder),
                expected="a folder written by assay train",
                remedy="restore the file, or train again",
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{FILE} is damaged: {error}", where=path, remedy="restore the file") from error


def kept_conversation(name: str) -> ConversationSettings | None:
    """Return how the model of ours that a folder or Hub id holds reads conversations; None where it holds none.

    Raises
    ------
    ModelError
        If its ``assay.json`` is damaged.
    """
    try:
        path = cached_file(backbones.locate(name), FILE)
    except OSError:
        return None
    return None if path is None else Provenance.read(os.path.dirname(path)).conversation


def conversation_fingerprint(encoder: ConversationEncoder) -> str:
    """Hash the token ids of rendered probe conversations; a template that refuses one counts as its answer."""
    settings = encoder.settings.to_dict()
    if settings["ends_cut"]:
        # folders that were written before there was a choice say nothing of it
        del settings["ends_cut"]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for prompt, reply in _PROBES:
        try:
            ids = encoder.encode([prompt], [reply])[0].ids
        except ModelError:
            ids = [-1]
        digest.update(json.dumps(ids).encode())
    return digest.hexdigest()


def weights_fingerprint(state: dict[str, torch.Tensor]) -> str:
    """Hash names and float32 values of a state dict, so that a change of one weight shows."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def base_fingerprint(state: dict[str, torch.Tensor]) -> str:
    """Hash names, shapes and a few values of the weights under an adapter: cheap, and another base still shows.

    Values are rounded to bfloat16, so that a base loaded in it is the same base.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in state if "pooler" not in name.split(".")):
        values = state[name].detach().flatten()
        some = values[:: max(1, len(values) // _VALUES)].to("cpu", torch.float32).to(torch.bfloat16)
        digest.update(f"{name}{tuple(state[name].shape)}".encode())
        digest.update(some.to(torch.float32).numpy().tobytes())
    return digest.hexdigest()


def model_fingerprint(model: Any) -> str:
    """Return 16 hex digits that tell scorers apart: weights, conversations, what scores are made of, calibration."""
    record = model.record
    told = {
        "conversation": conversation_fingerprint(model.encoder),
        "weights": base_fingerprint(model.state_dict()),
        "calibration": record.calibration,
        "policy": record.policy,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def refuse_changed(folder: str, what: str, stored: str | None, found: str) -> None:
    """Refuse a part of a model whose fingerprint is not the stored one.

    Raises
    ------
    ModelError
        If it is another one.
    """
    if stored != found:
        raise ModelError(
            f"the {what} is not the one this model was trained with; its scores would mean something else",
            where=folder,
            expected=f"fingerprint {str(stored)[:12]}",
            got=found[:12],
            remedy="restore the folder as it was saved",
        )
