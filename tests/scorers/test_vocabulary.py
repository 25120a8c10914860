"""Log-probabilities of replies: in every layout those of the whole language model, one text at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from assay.errors import ModelError
from assay.scorers import ModelOptions, create_reward_model, vocabulary
from assay.scorers.attention import prefer_trees
from assay.scorers.calling import states_of_blocks
from assay.scorers.encoding import encode_records
from assay.scorers.vocabulary import reply_likelihoods, vocabulary_head
from tests.scorers.test_equivalence import BUDGET, FAMILIES, LAYOUTS, SHAPE, ragged
from tests.training.support import planted

#: Tied and untied output vectors, a soft cap, a scale by a factor and by a quotient, a bias.
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": FAMILIES["gpt2"],
    "gemma2": FAMILIES["gemma2"] | {"final_logit_softcapping": 3.0},
    "cohere": {"logit_scale": 0.25, "num_key_value_heads": 2},
    "granite": {"logits_scaling": 4.0, "num_key_value_heads": 2},
    "phi": {},
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def language_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """Return the folder of a random language model, and the model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(request.param, **SHAPE | MODELS[request.param])
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    folder = tmp_path_factory.mktemp("language") / request.param
    model.save_pretrained(folder)
    return str(folder), model


def reference(model: Any, texts: list[np.ndarray], starts: np.ndarray) -> Tensor:
    """Return the log-probability of the tokens from the start of the reply on, from all logits of each text."""
    found = []
    for text, start in zip(texts, starts, strict=True):
        ids = torch.from_numpy(text)[None]
        each = model(input_ids=ids).logits[0, :-1].float().log_softmax(dim=-1)
        each = each.gather(1, ids[0, 1:, None])[:, 0]
        found.append(each[max(start, 1) - 1 :].sum())
    return torch.stack(found)


class Config:
    layout, causal, pooling, segments, separator_id = "assay", True, "last", False, None


@pytest.mark.parametrize("kept", [0, 2**28], ids=["made again", "kept"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_are_those_of_cross_entropy(kept: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_LOGITS_AT_ONCE", 50 * 4)
    monkeypatch.setattr(vocabulary, "_LOGITS_KEPT", kept)
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=draw).requires_grad_()
    states, tokens = torch.randn(11, 8, generator=draw).requires_grad_(), torch.randint(50, (11,), generator=draw)
    counts = torch.randn(11, generator=draw)

    def product(given: Tensor) -> Tensor:
        return given.to(dtype) @ weight.T.to(dtype)

    found = vocabulary.by_chunks(product, vocabulary.LogitShape(), 50)(states, tokens)
    expected = -torch.nn.functional.cross_entropy(product(states).float(), tokens, reduction="none")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    mine = torch.autograd.grad((found * counts).sum(), (states, weight))
    other = torch.autograd.grad((expected * counts).sum(), (states, weight))
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_gives_those_of_the_language_model(
    language_model: tuple[str, Any], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "_LOGITS_AT_ONCE", 200 * 7)  # several pieces
    folder, whole = language_model
    texts, _ = ragged()
    draw = np.random.default_rng(0)
    starts = np.array([draw.integers(0, len(text) + 1) for text in texts])  # inside trunks, at ends, at the beginning
    backbone: Any = transformers.AutoModel.from_pretrained(folder)
    prefer_trees(backbone)
    head = vocabulary_head(folder, backbone)
    chosen = LAYOUTS[layout]
    blocks, order = chosen.lay(texts, chosen.trees(texts, BUDGET), BUDGET, 0, starts)
    found = states_of_blocks(backbone, blocks, Config, together=True, log_probabilities=head.of(backbone))[order]
    plain = states_of_blocks(backbone, blocks, Config, together=True)[order]
    torch.testing.assert_close(found[:, :-1], plain, rtol=0, atol=1e-6)
    expected = reference(whole, texts, starts)
    assert float(expected.detach().std()) > 1
    torch.testing.assert_close(found[:, -1], expected, rtol=1e-5, atol=1e-4)
    # and so do the gradients of all weights below the output vectors, and of these where they are the input's
    for model, values in ((backbone, found[:, -1]), (whole, expected)):
        model.zero_grad()
        (values * torch.linspace(-1, 1, len(values))).sum().backward()
    gradients = dict(whole.base_model.named_parameters())
    checked = 0
    for name, parameter in backbone.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-3)
            checked += 1
    assert checked > 10


def test_output_vectors_of_their_own_are_kept_as_they_are(language_model: tuple[str, Any]) -> None:
    folder, whole = language_model
    head = vocabulary_head(folder, transformers.AutoModel.from_pretrained(folder))
    tied = whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    assert (head.weight is None) == tied
    assert not list(head.parameters()) and not head.state_dict()


def test_scale_and_cap_are_found(tmp_path: Path, language_model: tuple[str, Any]) -> None:
    folder, _ = language_model
    shape = vocabulary_head(folder, transformers.AutoModel.from_pretrained(folder)).shape
    kind = Path(folder).name
    assert shape.scale == pytest.approx({"cohere": 0.25, "granite": 0.25}.get(kind, 1.0), rel=1e-4)
    assert shape.cap == (3.0 if kind == "gemma2" else None)


def test_what_changes_its_logits_otherwise_is_refused(
    language_model: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, whole = language_model
    former = type(whole).forward

    def squared(self: Any, *args: Any, **options: Any) -> Any:
        output = former(self, *args, **options)
        output.logits = output.logits.square()
        return output

    monkeypatch.setattr(type(whole), "forward", squared)
    with pytest.raises(ModelError, match="changes its logits in a way that is not known"):
        vocabulary_head(folder, transformers.AutoModel.from_pretrained(folder))


def test_of_a_data_set(tiny_causal: Path) -> None:
    model = create_reward_model(ModelOptions(backbone=str(tiny_causal), vocabulary=True))
    records = encode_records(planted(7), model.encoder)
    whole = transformers.AutoModelForCausalLM.from_pretrained(tiny_causal).eval()
    texts = [np.asarray(records.text(index), np.int64) for index in range(len(records.lengths))]
    assert (records.reply_starts > 1).all() and (records.reply_starts < records.lengths).all()
    expected = reference(whole, texts, records.reply_starts).detach().numpy()
    found = reply_likelihoods(model, records, texts_at_once=5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_encoders_and_headless_folders_have_none(tiny_causal: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="an encoder knows no log-probabilities"):
        create_reward_model(ModelOptions(backbone=str(tiny_encoder), vocabulary=True))
    with pytest.raises(ModelError, match="the native layout has no vocabulary head"):
        create_reward_model(ModelOptions(backbone=str(tiny_causal), vocabulary=True, layout="native"))
    bare = transformers.AutoModel.from_pretrained(tiny_causal)
    bare.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_causal).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"weights are missing.*\n.*\n.*lm_head"):
        create_reward_model(ModelOptions(backbone=str(tmp_path), vocabulary=True))
    plain = create_reward_model(ModelOptions(backbone=str(tiny_causal)))
    with pytest.raises(ModelError, match="made without its vocabulary head"):
        plain.likelihoods({})
