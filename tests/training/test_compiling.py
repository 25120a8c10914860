"""Compiled layers: equal weights, and a model that is afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from assay.errors import ConfigError
from assay.scorers import LoraOptions, attention, layout
from assay.training import compiling
from assay.training.compiling import check_compilable, compiled_layers, repeated_layers
from tests.training.support import assert_equal, new_model, planted, trainer_for, weights
from tests.training.test_arguments import recomputing

# of torch itself, while it traces
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated"),
]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trace layers, and run what was traced without generating code, which takes half a minute."""
    torch.compiler.reset()
    monkeypatch.setattr(layout, "_LEAST_TRUNK", 3)
    monkeypatch.setattr(compiling.torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield
    torch.compiler.reset()


def final(model: Any, out: Path, **changes: Any) -> dict[str, torch.Tensor]:
    trainer = trainer_for(model, planted(16), out, held_out=planted(8, 1), **changes)
    trainer.train()
    assert all("forward" not in vars(module) for module in model.modules())
    return weights(model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "bert", "lora"])
@pytest.mark.usefixtures("traced")
def test_compiled_layers_give_the_weights_of_plain_ones(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = request.getfixturevalue("bert" if kind == "bert" else "llama")
    options: dict[str, Any] = {"lora": LoraOptions(rank=2)} if kind == "lora" else {}
    told: list[int] = []
    cut = attention._cut

    def spy(tensor: torch.Tensor, start: int, end: int) -> torch.Tensor:
        told.append(end)
        return cut(tensor, start, end)

    monkeypatch.setattr(attention, "_cut", spy)
    plain = final(new_model(backbone, **options), tmp_path / "plain")
    torch._dynamo.utils.counters.clear()
    found = final(new_model(backbone, **options), tmp_path / "compiled", compile_layers=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    assert (kind == "bert") != any(told), "no trunk was attended to"
    assert_equal(found, plain, 2e-4)


@pytest.mark.slow
def test_generated_code_gives_the_weights_of_plain_layers(
    llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()
    # strides that the first call happened to have must not be taken for granted in the next
    monkeypatch.setattr(layout, "_LEAST_TRUNK", 3)
    options = {"pairs_per_step": 4, "token_budget": 128}
    plain = final(new_model(llama), tmp_path / "plain", **options)
    assert_equal(final(new_model(llama), tmp_path / "compiled", compile_layers=True, **options), plain, 2e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_compilations_do_not_grow_with_depth_or_with_the_number_of_shapes(llama: str, tmp_path: Path) -> None:
    graphs = []
    for records in (12, 48):
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        model = new_model(llama)
        trainer_for(model, planted(records), tmp_path / str(records), compile_layers=True, token_budget=64).train()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    # one text or several; without a mask, with one, with one and a trunk
    assert graphs[0] <= 6 and graphs[1] <= 6


@pytest.mark.usefixtures("traced")
def test_an_error_leaves_no_compiled_layer_behind(llama: str) -> None:
    model = new_model(llama)
    with pytest.raises(RuntimeError, match="stop"), compiled_layers(model):
        assert sum("forward" in vars(module) for module in model.modules()) == len(model.backbone.layers)
        raise RuntimeError("stop")
    assert all("forward" not in vars(module) for module in model.modules())


def test_recomputed_layers_are_not_compiled(llama: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not compile layers that are recomputed"):
        trainer_for(new_model(llama), planted(8), tmp_path, compile_layers=True, **recomputing(True))


def test_layers_are_found_once_and_not_inside_each_other() -> None:
    block = lambda: nn.ModuleDict({"experts": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})  # noqa: E731
    mixed = nn.ModuleList([nn.Linear(2, 2), nn.Tanh()])
    model = nn.ModuleDict({"layers": nn.ModuleList([block(), block()]), "mixed": mixed, "none": nn.ModuleList()})
    assert repeated_layers(model) == list(model.get_submodule("layers").children())


def test_what_cannot_be_compiled_is_refused_before_training(
    llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no repeated layers"):
        check_compilable(nn.Linear(2, 2))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"C\+\+ compiler"):
        trainer_for(new_model(llama), planted(8), tmp_path, compile_layers=True)
