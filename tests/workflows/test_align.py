"""``assay align`` by the command line: what it writes, what it can do, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from assay.config import build
from assay.scorers import AdapterOff, FrozenReference, Policy
from assay.scorers.loading import load_scorer
from assay.training.terms import Likelihood
from assay.workflows.options import policy_options
from assay.workflows.policy_settings import METHODS, SINGLE, AlignSettings
from assay.workflows.policy_teaching import objective_of
from tests.workflows.conftest import Cli, metrics_of
from tests.workflows.test_interrupted import stop_after

QUICK = ["--patience", 0, "--evaluations-per-epoch", 1, "--resamples", 200, "--max-length-tokens", 48]
QUICK += ["--learning-rate", 3e-3, "--epochs"]
PROMPTS, REPLIES = ["Name a tool."] * 2, ["no idea", "a fine answer"]


def test_it_trains_a_plain_model_that_is_a_scorer(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    said = cli("align", many_pairs, "--out", "run", "--backbone", tiny_causal, *QUICK, 3)
    assert said.code == 0, said.err
    found = metrics_of(Path("run"))
    assert found["evaluation"]["accuracy"]["value"] > 0.7
    assert found["policy"] == {"base": str(tiny_causal), "beta": 0.1, "form": "sum", "reference": "start"}
    assert found["calibration"]["method"] == "on the validation share" and found["feedback"]["changes"] == []
    assert "itself as it came" in Path("run/report.html").read_text("utf-8")
    # nothing but transformers is needed to use it
    plain, info = transformers.AutoModelForCausalLM.from_pretrained("run/model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    before = transformers.AutoModelForCausalLM.from_pretrained(tiny_causal)
    assert not torch.equal(plain.lm_head.weight, before.lm_head.weight)
    transformers.AutoTokenizer.from_pretrained("run/model")
    # and the verbs that judge know it as a scorer
    policy: Any = load_scorer("run")
    assert isinstance(policy, Policy) and isinstance(policy.reference, FrozenReference)
    assert np.ptp(policy.score(PROMPTS, REPLIES)) > 0
    for words in (
        ["evaluate", "run", many_pairs, "--include-seen", "--out", "judged"],
        ["score", "run", many_pairs],
        ["calibrate", "run", many_pairs, "--include-seen", "--out", "again"],
    ):
        again = cli(*words)
        assert again.code == 0, again.err
    np.testing.assert_array_equal(load_scorer("again").score(PROMPTS, REPLIES), policy.score(PROMPTS, REPLIES))
    judged = json.loads(Path("judged/metrics.json").read_text("utf-8"))
    assert judged["evaluation"]["calibrated"] is not None


def test_verbs_of_reward_models_say_that_it_is_none(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    assert cli("align", many_pairs, "--out", "run", "--backbone", tiny_causal, *QUICK, 1).code == 0
    for words, reason in (
        (["export", "run", "--out", "plain"], "this is a policy"),
        (["select", "run", many_pairs, "--out", "next"], "this is a policy"),
        (["score", "run", many_pairs, "--tokens"], "score is that of a whole response"),
        (["score", "run", many_pairs, "--explain"], "no prototypes"),
    ):
        said = cli(*words)
        assert said.code == 2 and reason in said.err, said.err


def test_what_evaluate_finds_is_what_the_run_found(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    rows = many_pairs.read_text("utf-8").splitlines()
    Path("train.jsonl").write_text("\n".join(rows[:120]) + "\n", "utf-8")
    Path("test.jsonl").write_text("\n".join(rows[120:]) + "\n", "utf-8")
    words = ["--backbone", tiny_causal, *QUICK, 1, "--lora.rank", 4]
    said = cli("align", "train.jsonl", "--test", "test.jsonl", "--out", "run", *words)
    assert said.code == 0, said.err
    policy: Any = load_scorer("run")
    assert isinstance(policy.reference, AdapterOff)
    assert cli("evaluate", "run", "test.jsonl", "--out", "judged", "--include-seen").code == 0
    judged, own = (metrics_of(Path(folder))["evaluation"] for folder in ("judged", "run"))
    assert judged["accuracy"]["value"] == own["accuracy"]["value"]
    assert judged["nll"] == pytest.approx(own["nll"], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "form", "reference"),
    [
        (["--method", "ipo"], "sum", "start"),
        (["--method", "slic"], "sum", "start"),
        (["--method", "simpo"], "mean", None),
        (["--method", "orpo"], "odds", None),
        (["--reference", "none"], "sum", None),
        (["--per-token", "--likelihood", 0.1, "--clip", 2], "mean", "start"),
        (["--target", "smooth", "--target.epsilon", 0.2], "sum", "start"),
    ],
    ids=["ipo", "slic", "simpo", "orpo", "alone", "more", "conservative"],
)
def test_the_family(
    cli: Cli, tiny_causal: Path, many_pairs: Path, words: list[Any], form: str, reference: str | None
) -> None:
    said = cli("align", many_pairs, "--out", "run", "--backbone", tiny_causal, *QUICK, 1, *words)
    assert said.code == 0, said.err
    found = metrics_of(Path("run"))
    assert (found["policy"]["form"], found["policy"]["reference"]) == (form, reference)
    if reference is not None:  # without one, the likelier of two texts is often the shorter
        assert found["evaluation"]["accuracy"]["value"] > 0.5
    if "simpo" in words:
        assert found["policy"]["beta"] == 2 and "1 ahead" in found["feedback"]["changes"][0]["name"]
    policy: Any = load_scorer("run")
    assert (policy.reference is None) == (reference is None)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in SINGLE])
def test_what_is_usual_reaches_the_loss(method: str) -> None:
    settings = build(AlignSettings, {"data": "d", "out": "o", "backbone": "b", "method": method})
    objective: Any = objective_of(settings)
    usual = METHODS[method]
    assert (objective.kernel, objective.beta, objective.clip) == (usual.kernel, usual.beta, np.inf)
    assert objective.terms == ((Likelihood(usual.likelihood),) if usual.likelihood else ())
    assert (policy_options(settings).form, policy_options(settings).beta) == (usual.form, usual.beta)
    own = {"beta": 0.7, "likelihood": 0.3, "clip": 2.0, "margin": 0.5, "per_token": usual.form != "sum"}
    changed = settings.model_copy(update=own)
    objective = objective_of(changed)
    assert (objective.beta, objective.clip, objective.terms) == (0.7, 2.0, (Likelihood(0.3),))
    assert changed.ahead == 0.5 and policy_options(changed).beta == 0.7


def test_another_model_may_be_the_reference(
    cli: Cli,
    tiny_causal: Path,
    many_pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    here = Path.cwd()
    words = ["align", many_pairs, "--backbone", tiny_causal, *QUICK, 1]
    assert cli(*words, "--out", "first").code == 0
    said = cli(*words, "--out", "second", "--reference", "first")
    assert said.code == 0, said.err
    # it is found from anywhere
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    policy: Any = load_scorer(str(here / "second"))
    monkeypatch.chdir(here)
    first = transformers.AutoModelForCausalLM.from_pretrained("first/model")
    assert torch.equal(policy.reference.model.language_model.lm_head.weight, first.lm_head.weight)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param([], id="frozen"),
        pytest.param(["--moving.kind", "average", "--moving.every", 3], id="average", marks=pytest.mark.slow),
        pytest.param(["--moving.kind", "reset", "--moving.every", 5], id="reset"),
    ],
)
def test_an_interrupted_run_goes_on(
    cli: Cli, tiny_causal: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch, more: list[Any]
) -> None:
    words = ("align", many_pairs, "--backbone", tiny_causal, *QUICK, 2, *more)
    with monkeypatch.context() as patch:
        stop_after(7, patch, KeyboardInterrupt())
        assert cli(*words, "--out", "run").code == 130
    other = cli(*words, "--out", "run", "--resume", "--beta", 0.2)
    assert other.code == 2 and "differs from this one in: beta" in other.err
    said = cli(*words, "--out", "run", "--resume")
    assert said.code == 0, said.err
    assert cli(*words, "--out", "whole").code == 0
    one, two = (transformers.AutoModelForCausalLM.from_pretrained(f"{name}/model") for name in ("run", "whole"))
    assert torch.equal(one.lm_head.weight, two.lm_head.weight)


def test_a_dry_run_writes_nothing(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    said = cli("align", many_pairs, "--out", "run", "--backbone", tiny_causal, "--dry-run")
    assert said.code == 0 and "nothing was written" in said.out and list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--beta", 0], "greater than 0"),
        (["--method", "dop"], "dpo"),
        (["--method", "orpo", "--reference", "x"], "the odds of the policy alone"),
        (["--method", "simpo", "--target", "margin"], "is set by --target.kind margin too"),
        (["--reference", "nowhere"], "nowhere"),
        (["--resume", "--overwrite"], "choose one"),
        (["--validation-share", 0, "--patience", 2], "needs a validation share"),
        (["--validation-share", 0, "--calibration", "isotonic"], "needs a validation share"),
        (["--target.kind", "mmpo", "--target.sweep", "0.5", "4"], "is of assay train"),
        (["--target.kind", "pcrm", "--method", "orpo"], "would raise the worse replies"),
        (["--moving.kind", "reset", "--method", "simpo"], "begins with the policy as it came"),
        (["--moving.kind", "average", "--lora.rank", 2], "is of whole models"),
        (["--moving.kind", "average", "--moving.factor", 2], "less than or equal to 1"),
        (["--target.kind", "pcrm", "--target.similarity", "cosine"], "needs the vectors of texts"),
        (["--method", "kto", "--target.kind", "smooth"], "kto learns of each by itself"),
        (["--method", "sft", "--prospect.bad", 2], "weights of --method kto"),
        (["--method", "sft", "--reference", "x"], "takes no part in --method sft"),
        (["--prospect.bad", 2], "belongs to --method kto and sft"),
        (["--mixture.others", "x", "--method", "simpo"], "simpo has none here"),
        (["--mixture.others", "x", "--edit-delta", 2], "of tokens; choose one"),
        (["--mixture.others", "x", "y", "--mixture.weights", "crossed"], "of two references"),
        (["--edit-delta", 1, "--method", "orpo"], "orpo has odds"),
        (["--optimism", 0.1], "no response is the policy's own"),
        (["--rounds.kind", "sapo", "--lora.rank", 2], "does not go with --rounds"),
        (["--rounds.kind", "sapo", "--degraded.levels", 3], "which make pairs of their own"),
        (["--rounds.kind", "sapo", "--target.kind", "mmpo"], "pairs that are made in rounds have none"),
        (["--rounds.kind", "selm"], "rounds.ranker"),
        (["--rounds.kind", "selm", "--rounds.ranker", "nowhere"], "nowhere"),
        (["--rounds.kind", "sapo", "--method", "sft"], "choose dpo"),
        (["--degraded.levels", 1], "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_is_refused(
    cli: Cli, tiny_causal: Path, many_pairs: Path, words: list[Any], reason: str
) -> None:
    said = cli("align", many_pairs, "--out", "run", "--backbone", tiny_causal, *words)
    assert said.code == 2 and reason in said.err, said.err
    assert not Path("run").exists() and not Path("run.partial").exists()


def test_models_that_do_not_fit_are_refused(
    cli: Cli, tiny_causal: Path, tiny_encoder: Path, stranger: Path, many_pairs: Path
) -> None:
    said = cli("align", many_pairs, "--out", "run", "--backbone", tiny_encoder)
    assert said.code == 2 and "causal language model" in said.err, said.err
    said = cli("align", many_pairs, "--out", "run", "--backbone", tiny_causal, "--reference", stranger)
    assert said.code == 2 and "another vocabulary" in said.err, said.err
    said = cli("align", many_pairs, "--out", "run")
    assert said.code == 2 and "backbone" in said.err
    assert not Path("run").exists() and not Path("run.partial").exists()


@pytest.fixture
def stranger(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same model with one more token."""
    folder = tmp_path_factory.mktemp("stranger")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_causal)
    tokenizer.add_tokens(["<new>"])
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_causal)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
