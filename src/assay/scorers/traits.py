"""What a backbone does, found by trying it on short sequences of random tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device

from assay.scorers.calling import states_in_trees
from assay.scorers.evaluating import evaluating
from assay.scorers.layout import Layout
from assay.scorers.trees import Tree


@dataclass(frozen=True)
class Traits:
    """What a backbone does, found by trying: whether earlier states ignore later tokens, and the size of a state."""

    causal: bool
    width: int


def traits_of(backbone: Any) -> Traits:
    """Change the second half of a short sequence, and look whether states of the first half change."""
    vocabulary = int(backbone.config.get_text_config().vocab_size)
    ids = torch.arange(2, 10, device=_device(backbone)).remainder(vocabulary).unsqueeze(0)
    other = torch.cat([ids[:, :4], ids[:, 4:].flip(1)], dim=1)
    with evaluating(backbone):
        first, second = (
            backbone(input_ids=x, attention_mask=torch.ones_like(x)).last_hidden_state[0].float() for x in (ids, other)
        )
    change = (first - second).abs().amax(dim=1)
    # Not exactly none: where tokens are dealt to experts, those of the first half may be rounded in another way. What
    # attention lets through is far more: about 0.1 of the change itself, and 0.002 where nothing is trained.
    rounding = 1e-4 if backbone.dtype == torch.float32 else 3e-2
    return Traits(bool(change[:4].max() <= rounding * change[4:].max()), first.shape[-1])


_KNOWN_REACHES = {
    *("sliding_window", "use_sliding_window", "max_window_layers"),
    *("sliding_window_pattern", "_sliding_window_pattern"),
}
# What a backbone that cannot do a thing may raise when it is asked to.
_REFUSALS = (TypeError, ValueError, RuntimeError, KeyError, AttributeError, IndexError)


def shares_prefixes(backbone: Any) -> bool:
    """Tell whether texts laid out as a prefix tree get the states they have alone, by comparing both on a short tree.

    Recurrent and linear-attention layers, positions that cannot be given, and masks of other kinds all show here. An
    attention that reaches less far than the text shows in long texts only: a sliding window is made short for the
    comparison, so that it shows whether the backbone heeds it, and what else limits the reach is refused.
    """
    if _reaches(backbone.config) - _KNOWN_REACHES:
        return False
    draw = torch.Generator().manual_seed(0)
    trunk, *branches = (_random_ids(backbone, count, draw) for count in (7, 3, 5, 2))
    texts = [np.array(trunk + branch) for branch in branches]
    rows, _ = Layout(shares=True).rows(texts, [Tree(np.arange(3), 7, 7 + 3 + 5 + 2)], 0)
    rows = send_to_device(rows, _device(backbone))
    rows["trunk"] = 7
    with evaluating(backbone), _short_window(backbone.config.get_text_config()):
        try:
            found = states_in_trees(backbone, rows, {"input_ids": rows["input_ids"]})
        except _REFUSALS:
            return False
        alone = [backbone(input_ids=torch.tensor(x, device=found.device)[None]).last_hidden_state[0, -1] for x in texts]
    return _equal(found, torch.stack(alone))


def reads_vectors(backbone: Any) -> bool:
    """Tell whether a backbone gives the same output for token ids and for their vectors, by comparing both."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.tensor([_random_ids(backbone, 8, draw), _random_ids(backbone, 8, draw)], device=_device(backbone))
    with evaluating(backbone):
        try:
            vectors = backbone.get_input_embeddings()(ids)
            return _equal(backbone(inputs_embeds=vectors)[0], backbone(input_ids=ids)[0])
        except (*_REFUSALS, NotImplementedError):
            return False


def _reaches(config: Any) -> set[str]:
    """Return the entries of a configuration that tell how far attention reaches."""
    entries = config.get_text_config().to_dict()
    return {k for k, v in entries.items() if v and ("window" in k or "chunk" in k) and k != "chunk_size_feed_forward"}


def _random_ids(backbone: Any, count: int, draw: torch.Generator) -> list[int]:
    return torch.randint(int(backbone.config.get_text_config().vocab_size), (count,), generator=draw).tolist()


def _device(backbone: Any) -> torch.device:
    return next(backbone.parameters()).device


@contextmanager
def _short_window(config: Any) -> Iterator[None]:
    """Shorten a sliding window below the texts of the comparison."""
    window = getattr(config, "sliding_window", None)
    try:
        if window:
            config.sliding_window = 4
        yield
    finally:
        if window:
            config.sliding_window = window


def _equal(found: torch.Tensor, expected: torch.Tensor) -> bool:
    tolerance = 1e-5 if found.dtype in (torch.float32, torch.float64) else 0.05
    return bool((found - expected).norm() <= tolerance * expected.norm())
