"""A reward model as a folder, or as a repository of the Hub: weights, head, tokenizer, and what scoring must know."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from assay.errors import ModelError
from assay.scorers.adapters import load_adapter_weights
from assay.scorers.backbones import load_stored_weights
from assay.scorers.card import write_card
from assay.scorers.laplace import Laplace

if TYPE_CHECKING:
    from assay.scorers.reward_model import RewardModel

LAPLACE_FILE = "laplace.safetensors"
HEAD_FILE, BACKBONE, ADAPTER, TOKENIZER = "head.safetensors", "backbone", "adapter", "tokenizer"


def save(model: RewardModel, folder: str | os.PathLike[str], state: dict[str, Tensor] | None = None) -> None:
    """Write the whole model into ``folder``; ``state`` holds its gathered weights where they are sharded.

    Raises
    ------
    ModelError
        If ``state`` lacks the head: a folder without it would be worthless.
    """
    folder = os.fspath(folder)
    head = model.head_state(state)
    if not head and model.config.layout != "native":
        raise ModelError("the weights to be saved hold no score head", where=folder)
    os.makedirs(folder, exist_ok=True)
    model.stamp(head)
    model.config.save_pretrained(folder)
    inner = None
    if state is not None:
        prefix = f"{model.base_model_prefix}."
        inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    # embeddings belong to the base, which never changes under an adapter
    options = {"save_embedding_layers": False} if model.config.adapter else {}
    model.backbone.save_pretrained(os.path.join(folder, part_of(model)), state_dict=inner, **options)
    if head:
        tensors = {key: value.detach().cpu().contiguous() for key, value in head.items()}
        save_file(tensors, os.path.join(folder, HEAD_FILE), metadata={"format": "pt"})
    if model.laplace is not None:
        save_laplace(model.laplace, os.path.join(folder, LAPLACE_FILE))
    model.encoder.tokenizer.save_pretrained(os.path.join(folder, TOKENIZER))
    model.record.write(folder)
    write_card(os.path.join(folder, "README.md"), model)


def part_of(model: RewardModel) -> str:
    """Name the folder of the pretrained part: all of it, or its adapter."""
    return ADAPTER if model.config.adapter else BACKBONE


def load_weights(model: RewardModel, folder: str | os.PathLike[str]) -> None:
    """Load backbone (or adapter) and head from a folder that `save` wrote, into this very model.

    Raises
    ------
    ModelError
        If a file or a weight is missing, or has another shape.
    """
    part = os.path.join(folder, part_of(model))
    if model.config.adapter:
        load_adapter_weights(model.backbone, part)
    else:
        load_stored_weights(model.backbone, part)
    load_head(model, folder)


def load_head(model: RewardModel, folder: str | os.PathLike[str]) -> None:
    """Load the score head; a missing one is an error, never a random one."""
    if model.config.layout == "native":
        return
    path = os.path.join(folder, HEAD_FILE)
    if not os.path.isfile(path):
        raise ModelError(
            "the score head is missing; a reward model without it would score at random",
            where=str(folder),
            expected=HEAD_FILE,
            remedy="copy the whole model folder, or train again",
        )
    try:
        model.head.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(
            "the score head does not fit the model's configuration",
            where=path,
            got=str(error).splitlines()[-1].strip(),
            remedy="copy the whole model folder, or train again",
        ) from error


def save_laplace(laplace: Laplace, path: str) -> None:
    """Write the posterior of a last layer."""
    tensors = {"factor": torch.from_numpy(laplace.factor), "mean": torch.from_numpy(laplace.mean)}
    tensors["precision"] = torch.tensor(laplace.precision, dtype=torch.float64)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata={"format": "pt"})


def load_laplace(folder: str | os.PathLike[str]) -> Laplace | None:
    """Read the posterior of a last layer; None where there is none."""
    path = os.path.join(folder, LAPLACE_FILE)
    if not os.path.isfile(path):
        return None
    try:
        stored = load_file(path)
        return Laplace(stored["factor"].numpy(), stored["mean"].numpy(), float(stored["precision"]))
    except (KeyError, SafetensorError) as error:
        raise ModelError(
            "the posterior of the last layer is damaged",
            where=path,
            got=str(error),
            remedy="copy the whole model folder, or delete this file to score without deviations",
        ) from error


def upload(model: RewardModel, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload the folder that `save` writes to the Hub; return its address.

    Raises
    ------
    ModelError
        If the Hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        try:
            api: Any = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))
        except (HTTPError, HFValidationError, OSError) as error:
            raise ModelError(
                f"cannot upload to the Hub: {str(error).splitlines()[0]}",
                where=repo_id,
                remedy="check the name, the network (HF_HUB_OFFLINE) and the token",
            ) from error
