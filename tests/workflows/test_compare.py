"""``assay compare`` by the command line: what it judges, what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.scorers.judges import Answer, Question
from assay.scorers.loading import load_reward_model
from tests.workflows.conftest import Cli, metrics_of, run
from tests.workflows.test_align import QUICK

FEW = ["--prompts", 12, "--write.max-new-tokens", 8, "--resamples", 200, "--include-seen"]


@pytest.fixture(scope="module")
def aligned(tiny_causal: Path, many_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a policy. Tests must not change it."""
    folder = tmp_path_factory.mktemp("aligned") / "run"
    said = run("align", many_pairs, "--out", folder, "--backbone", tiny_causal, *QUICK, 1)
    assert said.code == 0, said.err
    return folder


def test_a_policy_is_compared_with_what_it_was(
    cli: Cli, aligned: Path, trained: Path, trained_causal: Path, tiny_causal: Path, many_pairs: Path
) -> None:
    Path("held_out.txt").write_text("A first paragraph.\n\nAnd a second one.\n", "utf-8")
    more = ["--gold", trained_causal, "--best-of", 1, 2, "--text", "held_out.txt", "--write.responses", 2]
    said = cli("compare", aligned, many_pairs, "--by", trained, "--out", "compared", *FEW, *more)
    assert said.code == 0, said.err
    found = metrics_of(Path("compared"))
    assert found["against"] == str(tiny_causal) and found["prompts"] == 12
    won = found["win_rate"]["by"]
    assert won["wins"] + won["ties"] + won["losses"] == 24 and 0 <= won["rate"]["value"] <= 1
    assert [point["policy"] for point in found["curve"]] == [str(tiny_causal), str(aligned)]
    assert found["curve"][0]["divergence"]["value"] == 0 and found["divergence"]["per_response"]["value"] != 0
    assert [point["n"] for point in found["best_of"]] == [1, 2]
    assert found["best_of"][1]["proxy"]["value"] >= found["best_of"][0]["proxy"]["value"]
    assert found["perplexity"]["policy"]["n"] == 2
    # the verdicts are those of the reward model on what is written down
    rows = [json.loads(line) for line in Path("compared/samples.jsonl").read_text("utf-8").splitlines()]
    model = load_reward_model(str(trained))
    gaps = np.subtract(
        *(model.score([r["prompt"] for r in rows], [r[side] for r in rows]) for side in ("policy", "against"))
    )
    # scores depend on their batch in the last digits, so what is as near as that may go either way
    clear = [(row["preferred"], gap) for row, gap in zip(rows, gaps, strict=True) if abs(gap) > 1e-5]
    assert clear and all(said == ("policy" if gap > 0 else "against") for said, gap in clear)
    assert all(row["preferred"] == "neither" for row in rows if row["policy"] == row["against"])
    page = Path("compared/report.html").read_text("utf-8")
    assert "best of 2" in page and rows[0]["prompt"] in page


def test_a_reward_is_recovered_from_what_two_policies_write(
    cli: Cli, aligned: Path, trained: Path, tiny_causal: Path, many_pairs: Path
) -> None:
    words = ["--by", trained, "--gold", trained, "--out", "both", "--pairs", "--write.responses", 2]
    said = cli("compare", aligned, many_pairs, *words, *FEW)
    assert said.code == 0 and "order 100.0 % of the pairs alike" in said.out, (said.out, said.err)
    found = metrics_of(Path("both"))
    assert found["agreement"]["rank"] == pytest.approx(1)
    rows = [json.loads(line) for line in Path("both/pairs.jsonl").read_text("utf-8").splitlines()]
    assert 12 <= len(rows) <= 24 and rows[0].keys() == {"prompt", "chosen", "rejected"}
    recovered = cli("train", "both/pairs.jsonl", "--out", "recovered", "--backbone", tiny_causal, "--freeze-backbone",
                    "--epochs", 2, "--test-share", 0)  # fmt: skip
    assert recovered.code == 0, recovered.err
    compared = cli("compare", aligned, many_pairs, "--by", "recovered", "--gold", trained, "--out", "third", *FEW)
    assert compared.code == 0 and metrics_of(Path("third"))["agreement"]["same_order"] is not None, compared.err


def test_equal_policies_tie(cli: Cli, tiny_causal: Path, trained: Path, many_pairs: Path) -> None:
    words = ["--against", tiny_causal, "--by", trained, "--out", "same", *FEW, "--write.temperature", 0]
    words += ["--best-of", 2]
    said = cli("compare", tiny_causal, many_pairs, *words)
    assert said.code == 0, said.err
    found = metrics_of(Path("same"))
    assert found["win_rate"]["by"]["ties"] == 12 and found["win_rate"]["by"]["rate"]["value"] == 0.5
    # without a gold reward model nobody judges what was chosen
    assert found["best_of"][0]["proxy"]["value"] and found["best_of"][0]["gold"] is None
    assert found["divergence"] is None and "tell no divergence" in said.err


class Shortest:
    """A judge who prefers the shorter response, but for every third, where it takes the first place."""

    name = "shortest"

    def ask(self, questions: list[Question]) -> list[Answer]:
        found = []
        for number, question in enumerate(questions):
            first, second = (part.split("[End of response")[0] for part in question.text.split("[Response ")[1:])
            found.append(Answer(1.0 if number % 3 == 0 else float(len(second) - len(first))))
        return found

    def costs(self) -> dict[str, Any]:
        return {}


def test_a_judge_may_prefer(
    cli: Cli, tiny_causal: Path, aligned: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.workflows.compare_verb.judge_of", lambda _: Shortest())
    said = cli("compare", aligned, many_pairs, "--judge.local", tiny_causal, "--out", "judged", *FEW)
    assert said.code == 0, said.err
    found = metrics_of(Path("judged"))
    orders = found["asked"]["orders"]
    assert (orders["pairs"], orders["always_the_first_place"]) == (12, 4) and found["asked"]["name"] == "shortest"
    rows = [json.loads(line) for line in Path("judged/samples.jsonl").read_text("utf-8").splitlines()]
    for number, row in enumerate(rows):
        gap = len(row["policy"]) - len(row["against"])
        expected = "neither" if number % 3 == 0 or gap == 0 else "policy" if gap < 0 else "against"
        assert row["preferred"] == expected


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "name a reward model that prefers"),
        (["--by", "m", "--judge.local", "j"], "and not both"),
        (["--judge.local", "j", "--best-of", 2], "needs the scores of --by"),
        (["--by", "m", "--best-of", 0], "1 or more"),
        (["--by", "m", "--write.temperature", 0, "--write.responses", 2], "all alike at temperature 0"),
        (["--by", "nowhere"], "nowhere"),
        (["--judge.local", "nowhere", "--write.max-new-tokens", 4000], "no prompt leaves room for a response"),
    ],
)
def test_what_cannot_be_is_refused(cli: Cli, aligned: Path, many_pairs: Path, words: list[Any], reason: str) -> None:
    said = cli("compare", aligned, many_pairs, "--out", "no", "--include-seen", "--prompts", 4, *words)
    assert said.code == 2 and reason in said.err, said.err
    assert not Path("no").exists()


def test_what_a_plain_model_was_before_is_not_known(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    said = cli("compare", tiny_causal, many_pairs, "--by", "m", "--out", "no")
    assert said.code == 2 and "--against MODEL" in said.err
