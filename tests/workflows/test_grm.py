"""GRM by the command line: training, resumption, what is stored, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import transformers

from assay.scorers import RewardModel
from tests.workflows.conftest import SMALL, Cli, metrics_of

GRM = [*SMALL, "--max-length-tokens", 48, "--head", "mlp", "--head.hidden", 16]


@pytest.mark.parametrize("words", [["--grm"], ["--grm.kind", "dpo", "--grm.reference"]], ids=["sigmoid", "reference"])
def test_it_trains_and_is_a_plain_reward_model_afterwards(
    cli: Cli, tiny_causal: Path, many_pairs: Path, words: list[str]
) -> None:
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_causal, *GRM, *words)
    assert said.code == 0, said.err
    assert metrics_of(Path("run"))["evaluation"]["accuracy"]["value"] > 0.5
    model = RewardModel.from_pretrained("run")
    assert model.vocabulary is None and np.ptp(model.score(["Name a tool."] * 2, ["no idea", "a fine answer"])) > 0
    # the backbone is a plain transformers folder without the head that regularised it
    found, info = transformers.AutoModel.from_pretrained("run/model/backbone", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    moved = transformers.AutoModel.from_pretrained(tiny_causal).get_input_embeddings().weight
    assert not moved.equal(found.get_input_embeddings().weight)


@pytest.mark.slow
def test_lora_and_members(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    common = ["train", many_pairs, "--backbone", tiny_causal, *GRM, "--grm.kind", "sft", "--lora.rank", 2]
    assert cli(*common, "--out", "lora").code == 0
    said = cli(*common, "--out", "members", "--ensemble.kind", "lora", "--ensemble.members", 2)
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--grm", "--freeze-backbone"], "--freeze-backbone changes none of them"),
        (["--grm", "--layout", "native"], "needs the vocabulary head"),
        (["--grm", "--target", "pcrm"], "would learn the worse replies too"),
        (["--grm", "--objective", "listnet"], "learns from the better of two replies"),
        (["--grm.reference"], "belongs to --grm.kind dpo"),
        (["--grm.kind", "sft", "--grm.beta", "0.2"], "has no effect on --grm.kind sft"),
        (["--grm.share", "0"], "greater than 0"),
        (["--grm.kind", "sigmiod"], "sigmoid"),
    ],
)
def test_what_has_no_effect_is_refused(
    cli: Cli, tiny_causal: Path, many_pairs: Path, words: list[str], reason: str
) -> None:
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_causal, *words)
    assert said.code == 2 and reason in said.err and not Path("run").exists()


def test_an_encoder_is_refused(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_encoder, "--grm")
    assert said.code == 2 and "causal language model" in said.err and not Path("run").exists()
