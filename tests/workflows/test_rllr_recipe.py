"""The recipe ``rllr`` with real stages on a tiny model: every mode of reward learns, and one report judges all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from assay.workflows.recipe_stages import shipped_recipes
from tests.workflows.conftest import Cli, metrics_of

LABELS = ("negative", "positive")
ROOM = {"max_length_tokens": 128}
SMALL: dict[str, dict[str, Any]] = {
    "sft": {"epochs": 1, **ROOM},
    "ppo": {"cycles": 1, "rollout": {"prompts": 4, "responses": 2, "max_new_tokens": 4}, **ROOM},
    "train": {"epochs": 1, "resamples": 100, **ROOM},
    "classify": {"max_new_tokens": 4, "best_of": [1, 2], "resamples": 100, **ROOM},
}


def small(recipe: Path) -> str:
    """Return the shipped recipe with so little to do that a test can wait for it."""
    made = yaml.safe_load(recipe.read_text("utf-8"))
    for stage in made["stages"]:
        stage.update(SMALL.get(stage.get("method", stage["verb"]), {}))
    return yaml.safe_dump(made, sort_keys=False)


def test_all_stages_on_few_examples(cli: Cli, tiny_causal: Path) -> None:
    """So few that no pairs are held out for calibration: the cap is then of the test pairs."""
    words_of = (("bad", "dull", "grey", "poor"), ("good", "warm", "fine", "kind"))
    rows = [
        {"text": f"{words_of[k % 2][k // 2 % 4]} {words_of[k % 2][k // 8 % 4]} {k}.", "label": LABELS[k % 2]}
        for k in range(120)
    ]
    Path("mood.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    Path("mine.yaml").write_text(small(shipped_recipes()["rllr"]), "utf-8")
    words = ("run", "mine.yaml", "--task", "sst2", "--data", "mood.jsonl", "--backbone", tiny_causal, "--out", "r")
    said = cli(*words)
    assert said.code == 0, said.err
    parts = {"rlhf": {"model"}, "rllr": {"model"}, "mixed": {"model", "rationale"}, "verifier": {"label"}}
    for name, own in parts.items():
        history = [json.loads(line) for line in Path(f"r/{name}/history.jsonl").read_text("utf-8").splitlines()]
        assert {f"part: {part}" for part in own} <= history[0].keys(), history[0]
    label = metrics_of(Path("r/label"))
    assert label["data"]["validation_pairs"] == 0 and "preferred" in label["score"]
    judged = metrics_of(Path("r/judged"))
    assert [Path(name).name for name in judged["policies"]] == ["sft", "sft_label", "rlhf", "rllr", "mixed", "verifier"]
    assert set(judged["pairs"]) == {"label_test", "rationale_test", "swapped_label", "wrong_rationale"}
    assert [point["n"] for point in judged["best_of"]] == [1, 2, 1, 2]
    assert Path("r/judged/report.html").is_file()
    again = cli(*words)
    assert again.code == 0 and again.err.count("finished before") == 10
