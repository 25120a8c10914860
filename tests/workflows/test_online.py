"""``assay align`` with rewards, by the command line: what it writes, what it refuses, and a run that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.config import build
from assay.credit.combining import Capped, Routed, Weighted
from assay.credit.links import Standard
from assay.errors import ConfigError
from assay.scorers import load_policy
from assay.scorers.loading import load_reward_model
from assay.workflows.online_rewards import rewards_of
from assay.workflows.online_settings import OnlineSettings
from tests.scorers.test_remote_reward import Rewards, server
from tests.workflows.conftest import Cli, environment, metrics_of

__all__ = ["server"]  # the fixture

QUICK: list[Any] = ["--rollout.prompts", 4, "--rollout.responses", 3, "--rollout.max-new-tokens", 6]
QUICK += ["--learning-rate", 3e-3, "--max-length-tokens", 64, "--shown", 2]


@pytest.fixture
def asked() -> Path:
    """Write 24 prompts with truths."""
    rows = [{"prompt": [{"role": "user", "content": f"Name thing {k}."}], "ground_truth": str(k)} for k in range(24)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    Path("mine.py").write_text(
        "def letters(completions, **_):\n"
        "    texts = [c if isinstance(c, str) else c[0]['content'] for c in completions]\n"
        "    return [t.count('a') - 0.1 * len(t) for t in texts]\n"
        "def raises(**_):\n    raise RuntimeError('no reward today')\n"
        "def nothing(completions, **_):\n    return [None] * len(completions)\n",
        "utf-8",
    )
    return Path("prompts.jsonl")


def history_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("method", ["grpo", "rloo", "reinforce"])
def test_a_policy_learns_from_a_function(cli: Cli, tiny_causal: Path, trained: Path, asked: Path, method: str) -> None:
    words = ["--method", method, "--backbone", tiny_causal, "--reward.functions", "mine.py:letters", *QUICK]
    said = cli("align", asked, "--out", "run", *words, "--epochs", 2)
    assert said.code == 0, said.err
    assert sorted(path.name for path in Path("run").iterdir() if path.name[0] != ".") == [
        "config.yaml", "history.jsonl", "metrics.json", "model", "report.html", "samples.jsonl",
    ]  # fmt: skip
    found, history = metrics_of(Path("run")), history_of(Path("run"))
    assert found["cycles"] == len(history) == 11 and found["prompts"] == {
        "trained on": 22,
        "held out": 2,
        "without room": 0,
    }
    names = {"reward", "part: mine.py:letters", "length", "ended"}
    assert found["held_out"]["before"].keys() == found["held_out"]["after"].keys() == names
    rows = [json.loads(line) for line in Path("run/samples.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 2 and "".join(rows[0]["after"]["tokens"]).strip() == rows[0]["after"]["response"].strip()
    assert sum(rows[0]["after"]["credit"]) == pytest.approx(rows[0]["after"]["reward"])
    page = Path("run/report.html").read_text("utf-8")
    assert "Before and after" in page and "<svg" in page
    assert load_policy("run/model").record.policy["base"] == str(tiny_causal)
    # a policy like any other
    words = ["--against", tiny_causal, "--by", trained, "--write.max-new-tokens", 4, "--prompts", 2, "--include-seen"]
    compared = cli("compare", "run", asked, "--out", "compared", *words)
    assert compared.code == 0 and metrics_of(Path("compared"))["prompts"] == 2, compared.err


def test_another_engine_writes(cli: Cli, tiny_causal: Path, asked: Path) -> None:
    words = ["--method", "rloo", "--backbone", tiny_causal, "--reward.functions", "mine.py:letters", *QUICK]
    said = cli("align", asked, "--out", "run", *words, "--rollout.engine", "continuous", "--cycles", 2)
    assert said.code == 0, said.err
    assert all(entry["length"] > 0 and entry["learned from"] == 1 for entry in history_of(Path("run")))


def test_redistributed_rewards_of_a_model_with_a_critic_that_begins_as_it(
    cli: Cli, tiny_causal: Path, trained_causal: Path, asked: Path
) -> None:
    words = ["--method", "ppo", "--backbone", tiny_causal, "--reward.model", trained_causal, *QUICK]
    said = cli(
        "align", asked, "--out", "run", *words, "--credit", "redistributed", "--gold", trained_causal, "--cycles", 2
    )
    assert said.code == 0, said.err
    history = history_of(Path("run"))
    assert len(history) == 2
    first = history[0]
    assert {"part: model", "part: model, spread of prefixes", "gold", "divergence", "explained by the critic"} <= set(
        first
    )
    assert first["gold"] == pytest.approx(first["part: model"], abs=1e-3)
    rows = [json.loads(line) for line in Path("run/samples.jsonl").read_text("utf-8").splitlines()]
    assert np.count_nonzero(rows[0]["after"]["credit"]) > 1


@pytest.mark.parametrize("credit", ["uniform", "shuffled", "attention", "critic_offset"])
def test_controls_of_credit(cli: Cli, tiny_causal: Path, trained_causal: Path, asked: Path, credit: str) -> None:
    words = ["--method", "ppo", "--backbone", tiny_causal, "--reward.model", trained_causal, *QUICK, "--cycles", 1]
    said = cli("align", asked, "--out", "run", *words, "--credit", credit, "--critic.kind", "shared", "--test-share", 0)
    assert said.code == 0, said.err
    assert metrics_of(Path("run"))["held_out"] == {"before": None, "after": None}


def test_rewards_are_added_mixed_and_held_within_a_budget(
    cli: Cli, tiny_causal: Path, trained_causal: Path, asked: Path
) -> None:
    common = ["--method", "rloo", "--backbone", tiny_causal, *QUICK, "--cycles", 1]
    both = ["--reward.model", trained_causal, "--reward.verifier.kind", "exact", "--reward.weights", 1, 2]
    said = cli("align", asked, "--out", "both", *common, *both, "--length.no-end", 0.5, "--reward.normalise")
    assert said.code == 0, said.err
    assert {"part: model", "part: exact", "part: length and end"} <= set(history_of(Path("both"))[0])
    safe = [
        "--reward.model",
        trained_causal,
        "--cost.model",
        trained_causal,
        "--cost.budget",
        -9,
        "--credit",
        "redistributed",
    ]
    said = cli("align", asked, "--out", "safe", *common, *safe)
    assert said.code == 0 and "part: multiplier" in history_of(Path("safe"))[0], said.err
    capped = ["--reward.model", trained_causal, "--rationale.model", trained_causal, "--rationale.cap", 0.1]
    said = cli("align", asked, "--out", "capped", *common, *capped)
    assert said.code == 0 and "part: beyond the cap" in history_of(Path("capped"))[0], said.err


def test_each_route_has_a_scale_of_its_own(trained_causal: Path) -> None:
    """Reward models by task, and the right label of another; what scales the one reward model scales each of them."""
    given: dict[str, Any] = {"data": "-", "out": "-", "method": "rloo", "backbone": "-"}
    routes = {"a": str(trained_causal), "b": str(trained_causal), "c": "verifier"}
    made = rewards_of(build(OnlineSettings, given | {"reward": {"routes": routes, "normalise": True}}))
    assert isinstance(made, Routed)
    scales = [getattr(link, "standard") for link in made.links.values()]  # noqa: B009 - not every link has one
    assert all(isinstance(own, Standard) for own in scales) and len({id(own) for own in scales}) == 3
    plain = rewards_of(build(OnlineSettings, given | {"reward": {"routes": routes}}))
    assert isinstance(plain, Routed) and not any(getattr(link, "standard", None) for link in plain.links.values())
    with pytest.raises(ConfigError, match=r"belongs to --reward.model"):
        build(OnlineSettings, given | {"reward": {"routes": {"c": "verifier"}, "normalise": True}})


def test_a_cap_is_a_quantile_of_held_out_right_answers(
    cli: Cli, tiny_causal: Path, trained_causal: Path, asked: Path
) -> None:
    common = ["--method", "rloo", "--backbone", tiny_causal, *QUICK, "--cycles", 1]
    mixed = ["--reward.model", trained_causal, "--rationale.model", trained_causal]
    stored = load_reward_model(str(trained_causal)).record.score["preferred"]
    assert len(stored) == 21 and stored == sorted(stored)
    said = cli("align", asked, "--out", "quantile", *common, *mixed, "--rationale.quantile", 0.25)
    assert said.code == 0 and f"capped at {stored[5]:.3f}" in said.err, said.err
    assert "of held-out wrong answers score above the cap too" in said.err
    for words, reason in (
        (["--rationale.cap", 1, "--rationale.quantile", 0.2], "say the same"),
        (["--reward.functions", "mine.py:letters", "--rationale.model", trained_causal], "only a --reward.model knows"),
        (["--rationale.cap", "nan"], "greater than -inf"),
        (["--rationale.cap", 1, "--reward.weights", 2], "would change the units"),
        (
            ["--reward.functions", *["mine.py:letters"] * 2, "--rationale.model", trained_causal, "--rationale.cap", 1],
            "caps one reward",
        ),
    ):
        source = [] if "--reward.functions" in words else mixed
        said = cli("align", asked, "--out", "no", *common, *source, *words)
        assert said.code == 2 and reason in said.err, said.err
    bare = load_reward_model(str(trained_causal))
    del bare.record.score["preferred"]
    bare.save_pretrained("bare")
    said = cli("align", asked, "--out", "no", *common, "--reward.model", "bare", "--rationale.model", trained_causal)
    assert said.code == 2 and "does not know what right answers score" in said.err, said.err


def test_the_cap_is_of_the_reward_model_alone(trained_causal: Path, asked: Path) -> None:
    """Other sources are added to the mix, and neither capped nor counted towards the cap."""
    given: dict[str, Any] = {"data": str(asked), "out": "-", "method": "rloo", "backbone": "-"}
    given |= {"reward": {"model": str(trained_causal), "functions": ["mine.py:letters"]}}
    given |= {"rationale": {"model": str(trained_causal), "cap": "inf"}}
    chain = rewards_of(build(OnlineSettings, given))
    assert isinstance(chain, Weighted) and [weight for _, weight in chain.links] == [1.0, 1.0]
    capped = chain.links[0][0]
    assert isinstance(capped, Capped) and capped.cap == float("inf")
    # without a reward model, of the one source there is
    given |= {"reward": {"functions": ["mine.py:letters"]}}
    assert isinstance(rewards_of(build(OnlineSettings, given)), Capped)


def test_a_reward_server(cli: Cli, tiny_causal: Path, asked: Path, server: Rewards) -> None:
    words = ["--method", "rloo", "--backbone", tiny_causal, *QUICK, "--cycles", 1, "--reward.urls", server.url]
    said = cli("align", asked, "--out", "run", *words)
    assert said.code == 0, said.err
    sent = server.requests[-1]["body"]
    assert sent["query"][0].startswith(sent["prompts"][0]) and sent["labels"][0] is not None
    server.failures = [500] * 99
    said = cli("align", asked, "--out", "down", *words, "--reward.tries", 1)
    assert said.code == 2 and "the reward server does not answer" in said.err and not Path("down").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing gives rewards"),
        (["--reward.functions", "mine.py:raises"], "no reward today"),
        (["--reward.functions", "mine.py:nothing"], "no response has a reward"),
        (["--reward.functions", "none.py:f"], "is not there"),
        (["--reward.functions", "mine.py:letters", "--credit", "redistributed"], "scores of --reward.model"),
        (["--reward.functions", "mine.py:letters", "--trace", 0.5], "belongs to --method ppo"),
        (["--reward.functions", "mine.py:letters", "--reward.tries", 2], "belongs to --reward.urls"),
        (["--reward.functions", "mine.py:letters", "--band", 0.8, 0.2], "the lower end comes first"),
        (["--reward.functions", "mine.py:letters", "--kl.coefficient", 0, "--kl.target", 2], "never moves"),
        (["--reward.functions", "mine.py:letters", "--kl.horizon", 5], "belongs to --kl.target"),
        (["--reward.verifier.kind", "exact", "--reward.verifier.majority"], "one answer is its own majority"),
        (["--reward.functions", "mine.py:letters", "--reward.weights", 1, 2], "are 2 for 1"),
        (["--reward.model", "nowhere"], "nowhere"),
        (["--reward.verifier.kind", "exact", "--reward.verifier.column", "truth"], "the truth is not in the data"),
        (["--reward.functions", "mine.py:letters", "--target.kind", "mmpo"], "no such setting"),
        (["--reward.functions", "mine.py:letters", "--rollout.engine-memory", 0.5], "belongs to --rollout.engine vllm"),
        (
            ["--reward.functions", "mine.py:letters", "--rollout.engine", "continuous", "--rollout.token-budget", 99],
            "decides itself",
        ),
    ],
)
def test_what_cannot_be_is_refused(cli: Cli, tiny_causal: Path, asked: Path, words: list[Any], reason: str) -> None:
    said = cli("align", asked, "--out", "no", "--method", "rloo", "--backbone", tiny_causal, *QUICK, *words)
    assert said.code == 2 and reason in said.err, said.err
    assert not Path("no").exists() and not Path("no.partial").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--rollout.max-new-tokens", 500], "no prompt leaves room"),
        (["--rollout.responses", 1], "compares responses to one prompt"),
    ],
)
def test_rollouts_that_cannot_be(cli: Cli, tiny_causal: Path, asked: Path, words: list[Any], reason: str) -> None:
    common = ["--method", "rloo", "--backbone", tiny_causal, "--reward.functions", "mine.py:letters"]
    said = cli("align", asked, "--out", "no", *common, "--max-length-tokens", 64, *words)
    assert said.code == 2 and reason in said.err, said.err


def test_a_model_that_sees_what_follows_has_no_credit(cli: Cli, tiny_causal: Path, trained: Path, asked: Path) -> None:
    words = ["--method", "rloo", "--backbone", tiny_causal, "--reward.model", trained, "--credit", "redistributed"]
    said = cli("align", asked, "--out", "no", *words, *QUICK)
    assert said.code == 2 and "cannot tell what each token earned" in said.err and "sees the whole text" in said.err


def test_the_plan_alone(cli: Cli, tiny_causal: Path, asked: Path) -> None:
    words = ["--method", "grpo", "--backbone", tiny_causal, "--reward.functions", "mine.py:letters", *QUICK]
    said = cli("align", asked, "--out", "no", *words, "--rollout.minibatches", 2, "--dry-run")
    assert said.code == 0 and "5 cycles, 10 steps, 22 prompts" in said.out, (said.out, said.err)
    assert not Path("no").exists()


def test_a_file_names_the_method_too(cli: Cli, tiny_causal: Path, asked: Path) -> None:
    Path("online.yaml").write_text("method: rloo\nreward:\n  functions: [mine.py:letters]\n", "utf-8")
    said = cli("align", asked, "--config", "online.yaml", "--out", "no", "--backbone", tiny_causal, *QUICK, "--dry-run")
    assert said.code == 0 and "cycles" in said.out, said.err


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_curve(
    cli: Cli, tiny_causal: Path, trained_causal: Path, asked: Path
) -> None:
    words = ["align", asked, "--method", "ppo", "--backbone", tiny_causal, "--reward.model", trained_causal, *QUICK]
    words += ["--credit", "redistributed", "--cycles", 12, "--save-every", 2, "--rollout.inner-epochs", 2]
    command = [sys.executable, "-m", "assay.cli", *map(str, words), "--out", "run"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not list(Path().glob("run.partial/checkpoints/*/COMPLETE")) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert not Path("run").exists() and Path("run.partial").exists()
    again = cli(*words, "--out", "run", "--resume")
    assert again.code == 0, again.err
    assert cli(*words, "--out", "whole").code == 0
    for one, other in zip(history_of(Path("run")), history_of(Path("whole")), strict=True):
        for name in ("cycle", "reward", "divergence", "length", "explained by the critic"):
            assert one[name] == pytest.approx(other[name], abs=1e-4), name
    found, expected = metrics_of(Path("run")), metrics_of(Path("whole"))
    assert found["held_out"]["after"] == pytest.approx(expected["held_out"]["after"], abs=1e-4)
    changed = cli(*words, "--out", "run", "--resume", "--overwrite")
    assert changed.code == 2
