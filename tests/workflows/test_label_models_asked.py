"""``assay label`` where language models take part: as judges, and as writers of responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.feedback import pairs, read
from tests.scorers.judges.server import Server, completion, serving
from tests.workflows.conftest import Cli, metrics_of


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def test_judge_behind_an_address_votes_by_principles_and_tells_its_cost(
    cli: Cli, many_pairs: Path, tmp_path: Path, server: Server
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("principles: {long: 'Which response is longer?'}")
    said = cli(
        "label", many_pairs, "--presets", "", "--judge.url", server.url, "--judge.model", "m", "--judge.rules", rules,
        "--judge.cache", tmp_path / "answers.sqlite", "--judge.price-in", 1, "--out", tmp_path / "labels",
    )  # fmt: skip
    assert said.code == 0, said.err
    found = metrics_of(tmp_path / "labels")
    assert [row["name"] for row in found["functions"]] == ["judge long"]
    assert found["functions"][0]["longer"] == 1.0
    assert found["judge"]["price"] == pytest.approx(found["judge"]["requests"] * 100 / 1e6)
    assert found["judge"]["orders"]["judge long"]["pairs"] == 260
    assert "was asked" in (tmp_path / "labels" / "report.html").read_text()


def test_judge_who_always_says_first_is_told_of_and_left_out(
    cli: Cli, many_pairs: Path, tmp_path: Path, server: Server
) -> None:
    server.broken = json.dumps(completion("A", {"A": 0.9, "B": 0.1})).encode()
    asked = ("--judge.url", server.url, "--judge.model", "m", "--judge.cache", tmp_path / "answers.sqlite")
    said = cli("label", many_pairs, "--only", "length", *["judge helpful"], *asked, "--out", tmp_path / "labels")
    assert said.code == 0, said.err
    assert "the judge took the first place twice in 26" in said.err
    assert "left out 'judge helpful': it never votes here" in said.err


def test_judge_that_is_down_ends_the_run_and_writes_nothing(
    cli: Cli, many_pairs: Path, tmp_path: Path, server: Server
) -> None:
    server.failures = [500] * 10_000
    said = cli(
        "label", many_pairs, "--judge.url", server.url, "--judge.model", "m", "--judge.tries", 1,
        "--judge.cache", tmp_path / "answers.sqlite", "--out", tmp_path / "labels",
    )  # fmt: skip
    assert said.code == 2 and "the judge does not answer" in said.err
    assert not (tmp_path / "labels").exists()


def test_local_judge_votes(cli: Cli, many_pairs: Path, tmp_path: Path, tiny_causal: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("principles: {a: 'Which?'}\ncriteria: {b: 'Is it?'}")
    said = cli(
        "label", many_pairs, "--judge.local", tiny_causal, "--judge.rules", rules,
        "--only", "length", "judge a", "judge b", "--workers", 2, "--out", tmp_path / "labels",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert metrics_of(tmp_path / "labels")["judge"]["asked"] > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--judge.url", "http://x/v1"), "judge.model: is needed"),
        (("--judge.rules", "r.yaml"), "name a model, or a server"),
        (("--judge.local", "x", "--judge.url", "http://x/v1", "--judge.model", "m"), "not both"),
        (("--judge.local", "x", "--judge.price-in", "1"), "belongs to --judge.url"),
        (("--judge.local", "nowhere"), "nowhere"),
    ],
)
def test_wrong_judges_are_told(cli: Cli, many_pairs: Path, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    said = cli("label", many_pairs, *options)
    assert said.code == 2 and says in said.err, said.err


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"Name tool {i}."}) for i in range(6)))
    return path


def test_prompts_get_responses_that_are_labelled(
    cli: Cli, many_pairs: Path, prompts: Path, tiny_causal: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    windows = tmp_path / "windows.yaml"
    windows.write_text("length: {least: 1}")
    words = ("label", prompts, "--labels", many_pairs, "--generate.models", tiny_causal, "--generate.responses", 3)
    small = ("--generate.max-new-tokens", 8, "--generate.token-budget", 64)
    said = cli(*words, *small, "--only", "length", "--windows", windows, "--out", out)
    assert said.code == 0, said.err
    counts = metrics_of(out)["generated"]
    assert counts["sampled"] == 18 and counts["prompts_left_out"] + counts["empty"] + counts["repeated"] < 18
    weak = read(str(out / "records" / "weak.parquet"))
    assert len(pairs(weak)) and json.loads(weak[0]["meta"])["responses"][0]["model"] == str(tiny_causal)
    # the judged prompts that are asked again do not teach
    assert metrics_of(out)["counts"]["teaching"] == 248


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "sample some with --generate.models"),
        (("--generate.models", "nowhere"), "nowhere"),
        (("--generate.responses", "2"), "generate.models"),
        (("--generate.models", "m", "--generate.responses", "1"), "one response cannot be compared"),
        (("--generate.models", "m", "--generate.temperature", "0"), "all alike at temperature 0"),
    ],
)
def test_prompts_that_get_no_responses(cli: Cli, prompts: Path, options: tuple[str, ...], says: str) -> None:
    said = cli("label", prompts, *options)
    assert said.code == 2 and says in said.err, said.err


def test_responses_are_not_sampled_beside_others(cli: Cli, many_pairs: Path, tiny_causal: Path) -> None:
    said = cli("label", many_pairs, "--generate.models", tiny_causal)
    assert said.code == 2 and "have responses already" in said.err
