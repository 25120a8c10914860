"""Methods of ``assay align`` beyond margins against one reference, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.config import build
from assay.feedback import comparison, from_rows
from assay.feedback.records import edge
from assay.scorers import FrozenReference
from assay.scorers.loading import load_scorer
from assay.scorers.references import MixedReference
from assay.workflows.align_verb import resolved
from assay.workflows.policy_rounds import Round as REAL_ROUND
from assay.workflows.policy_settings import AlignSettings
from tests.workflows.conftest import Cli, metrics_of
from tests.workflows.test_align import PROMPTS, QUICK, REPLIES, stranger

__all__ = ["stranger"]


@pytest.fixture
def labelled(many_pairs: Path) -> Path:
    """Write every response of the pairs as a good or a bad one."""
    rows = [json.loads(line) for line in many_pairs.read_text("utf-8").splitlines()]
    singles = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in rows
        for side in ("chosen", "rejected")
    ]
    path = many_pairs.with_name("labelled.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in singles), "utf-8")
    return path


def align(cli: Cli, data: Path, backbone: Path, *words: Any, epochs: int = 2, out: str = "run") -> dict[str, Any]:
    said = cli("align", data, "--out", out, "--backbone", backbone, *QUICK, epochs, *words)
    assert said.code == 0, said.err
    return metrics_of(Path(out))


def test_kto_learns_from_comparisons(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    found = align(cli, many_pairs, tiny_causal, "--method", "kto")
    assert found["evaluation"]["accuracy"]["value"] > 0.7
    told = found["feedback"]["verdicts"]
    assert told["good"] == told["bad"] == found["data"]["train_pairs"]
    assert isinstance(load_scorer("run").reference, FrozenReference)


@pytest.mark.slow
def test_kto_learns_from_labels(cli: Cli, tiny_causal: Path, labelled: Path) -> None:
    found = align(cli, labelled, tiny_causal, "--method", "kto", "--prospect.bad", 1.5)
    assert found["evaluation"] is None and found["rated"]["auroc"]["value"] > 0.7
    assert found["calibration"] is not None


def test_sft_raises_good_replies(cli: Cli, tiny_causal: Path, many_pairs: Path, labelled: Path) -> None:
    for number, data in enumerate((many_pairs, labelled)):
        found = align(cli, data, tiny_causal, "--method", "sft", out=f"run{number}", epochs=3)
        assert found["policy"]["reference"] is None
        losses = [loss for _, loss in found["training"]["validation_loss"]]
        assert losses[-1] < losses[0]
    # and what it made is where others begin
    align(cli, many_pairs, Path("run0"), epochs=1, out="then")


def test_replies_that_are_cut_are_told_and_teach_no_end(cli: Cli, tiny_causal: Path) -> None:
    rows = [{"prompt": f"Name sea {k}", "chosen": "long " * 40 + f"{k}", "rejected": f"No {k}"} for k in range(24)]
    Path("long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = cli("align", "long.jsonl", "--out", "cut", "--backbone", tiny_causal, *QUICK, 1, "--method", "sft")
    assert said.code == 0 and "responses are longer than --max-length-tokens" in said.err, said.err
    policy: Any = load_scorer("cut")
    assert not policy.encoder.settings.ends_cut
    (one,) = policy.encoder.encode(["Name sea 1"], ["long " * 40])
    assert one.cut_reply and policy.encoder.tokenizer.eos_token_id not in one.ids


@pytest.mark.slow
def test_several_references(cli: Cli, tiny_causal: Path, many_pairs: Path, stranger: Path) -> None:
    align(cli, many_pairs, tiny_causal, epochs=1, out="other")
    found = align(cli, many_pairs, tiny_causal, "--mixture.others", "other", epochs=1)
    weights = found["policy"]["mixture"]["weights"]
    assert sum(weights) == pytest.approx(1) and weights[1] > weights[0]  # the other has learned to tell replies apart
    policy: Any = load_scorer("run")
    assert isinstance(policy.reference, MixedReference) and len(policy.reference.parts) == 2
    crossed = align(cli, many_pairs, tiny_causal, "--mixture.others", "other", "--mixture.weights", "crossed", out="x")
    assert crossed["policy"]["mixture"]["weights"] == pytest.approx(weights[::-1])
    # references that are the policy itself, or that may not stray: DPO to the last bit
    plain = align(cli, many_pairs, tiny_causal, epochs=1, out="plain")
    still: list[list[Any]] = [[tiny_causal], ["other", "--mixture.clip", 0, "--mixture.weights", "equal"]]
    for number, words in enumerate(still):
        same = align(cli, many_pairs, tiny_causal, "--mixture.others", *words, epochs=1, out=f"same{number}")
        np.testing.assert_allclose(same["training"]["train_loss"], plain["training"]["train_loss"], atol=1e-5)
    said = cli("align", many_pairs, "--out", "no", "--backbone", tiny_causal, "--mixture.others", stranger)
    assert said.code == 2 and "another vocabulary" in said.err


def test_tokens_that_tell_replies_apart_may_count_more(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    found = align(cli, many_pairs, tiny_causal, "--edit-delta", 2, epochs=1)
    plain = align(cli, many_pairs, tiny_causal, epochs=1, out="plain")
    assert found["training"]["train_loss"] != plain["training"]["train_loss"]
    assert found["training"]["train_loss"][0][1] == pytest.approx(np.log(2), abs=0.1)
    policy = load_scorer("run")
    assert policy.edit_delta == 0 and np.ptp(policy.score(PROMPTS, REPLIES)) > 0


@pytest.mark.slow
def test_own_responses_are_pushed_down(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    rows = [json.loads(line) for line in many_pairs.read_text("utf-8").splitlines()]
    own = "my own words"
    marks = {"responses": [None, None, {"own": True}]}
    made = [comparison(row["prompt"], [row["chosen"], row["rejected"], own], [edge(0, 1)], meta=marks) for row in rows]
    from_rows(made).to_parquet("own.parquet")
    for number, factor in enumerate((0, 5)):
        align(cli, Path("own.parquet"), tiny_causal, *(("--optimism", factor) if factor else ()), out=f"run{number}")
    plain, pushed = (load_scorer(f"run{number}").score(PROMPTS[:1], [own])[0] for number in range(2))
    assert pushed < plain - 0.1


@pytest.mark.slow
def test_pairs_that_nobody_judged(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    found = align(cli, many_pairs, tiny_causal, "--degraded.levels", 2, "--degraded.weight", 0.5, epochs=1)
    assert found["feedback"]["degraded"]["judgements"] > 100
    found = align(cli, many_pairs, tiny_causal, "--bridge.model", tiny_causal, "--bridge.max-new-tokens", 4, out="bmc")
    assert sum(found["feedback"]["bridge"].values()) == found["data"]["train_pairs"]
    rows = [json.loads(line) for line in many_pairs.read_text("utf-8").splitlines()]
    writers = {"responses": [{"model": "large"}, {"model": "small"}]}
    made = [comparison(row["prompt"], [row["chosen"], row["rejected"]], [edge(0, 1)], meta=writers) for row in rows]
    from_rows(made).to_parquet("written.parquet")
    words = ["--assumed-order", "large", "small", "--target.kind", "votes", "--clip", 1]
    found = align(cli, Path("written.parquet"), tiny_causal, *words, out="tso", epochs=1)
    assert found["feedback"]["assumed_order"]["judgements"] > 100
    said = cli("align", many_pairs, "--out", "no", "--backbone", tiny_causal, "--assumed-order", "large", "small")
    assert said.code == 2 and "two writers of the order" in said.err


@pytest.mark.parametrize("kind", ["selm", pytest.param("sapo", marks=pytest.mark.slow)])
def test_rounds_learn_from_what_the_policy_wrote(
    cli: Cli, tiny_causal: Path, many_pairs: Path, trained: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[Any] = ["--rounds.kind", kind, "--rounds.count", 2, "--target.kind", "judged"]
    words += {
        "selm": ["--rounds.ranker", trained, "--rounds.alpha", 0.01, "--rounds.max-new-tokens", 6],
        "sapo": ["--rounds.pairs", 40, "--rounds.tokens", 3, "--rounds.temperature", 1],
    }[kind]
    found = align(cli, many_pairs, tiny_causal, *words, epochs=1)
    history = found["feedback"]["rounds"]
    assert len(history) == 2 and found["policy"]["base"] == str(tiny_causal)
    if kind == "selm":
        judged, won = history[1]["judgements"], history[1]["won by the policy's own answer"]
        assert judged > 20 and 0 <= won <= judged and history[1]["left out for want of room"] == 0
    else:
        assert history[0]["regrown"] == 40 and history[1]["drawn"] == 40
    # every round is a plain model, and the result is the last of them
    last, whole = (load_scorer(name) for name in ("run/round-1/model", "run"))
    np.testing.assert_allclose(last.score(PROMPTS, REPLIES), whole.score(PROMPTS, REPLIES), atol=1e-5)
    assert found["calibration"] is not None
    # an interrupted run goes on after its last whole round
    with monkeypatch.context() as patch:
        patch.setattr("assay.workflows.policy_rounds.Round", _Interrupted())
        assert cli("align", many_pairs, "--out", "again", "--backbone", tiny_causal, *QUICK, 1, *words).code == 130
    assert Path("again.partial/round-0/model").is_dir()
    said = cli("align", many_pairs, "--out", "again", "--backbone", tiny_causal, *QUICK, 1, *words, "--resume")
    assert said.code == 0, said.err
    np.testing.assert_array_equal(load_scorer("again").score(PROMPTS, REPLIES), whole.score(PROMPTS, REPLIES))


class _Interrupted:
    """Makes one round, and stops at the second."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, *given: Any, **more: Any) -> Any:
        self.made += 1
        if self.made == 2:
            raise KeyboardInterrupt
        return REAL_ROUND(*given, **more)


@pytest.mark.parametrize(
    ("method", "parameters", "rate"),
    [("sft", 10**7, 2e-4), ("sft", 10**9, 2e-5), ("dpo", 10**7, 2e-5), ("dpo", 10**9, 1e-6)],
)
def test_teaching_is_faster_than_comparing(method: str, parameters: int, rate: float) -> None:
    settings = build(AlignSettings, {"data": "-", "out": "-", "backbone": "-", "method": method})
    assert resolved(settings, parameters).learning_rate == rate
