"""The recipe of weak supervision around a tiny backbone, and judgements that are too few or of one kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from assay.workflows import recipe_stages
from tests.workflows.conftest import Cli, metrics_of


def test_recipe_labels_trains_twice_and_compares(
    cli: Cli, many_pairs: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load(recipe_stages.shipped_recipes()["weak_supervision"].read_text("utf-8"))
    for stage in content["stages"]:
        stage["resamples"] = 200
        if stage["verb"] == "train":
            stage |= {"backbone": str(tiny_encoder), "max_length_tokens": 32, "epochs": 2}
    recipe = tmp_path / "weak.yaml"
    recipe.write_text(yaml.safe_dump(content), "utf-8")
    said = cli("run", recipe, "--data", many_pairs, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    labels, compared = (metrics_of(tmp_path / "out" / name) for name in ("labels", "comparison"))
    data = {arm: metrics_of(tmp_path / "out" / arm)["data"] for arm in ("baseline", "weak")}
    assert data["baseline"]["train_pairs"] == labels["counts"]["teaching"]
    assert data["weak"]["train_pairs"] == labels["counts"]["teaching"] + labels["counts"]["labelled"]
    assert data["weak"]["test_pairs"] == data["baseline"]["test_pairs"] == compared["evaluation"]["n_pairs"]
    assert compared["evaluation"]["against"] is not None


@pytest.fixture
def two_judged(many_pairs: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Write two judged pairs, and 60 others without their judgements."""
    rows = [json.loads(line) for line in many_pairs.read_text().splitlines()]
    judged, others = tmp_path / "judged.jsonl", tmp_path / "others.jsonl"
    judged.write_text("\n".join(map(json.dumps, (rows[0], rows[2]))))
    free = [{"prompt": r["prompt"], "responses": [r["chosen"], r["rejected"]], "edges": []} for r in rows[10:70]]
    others.write_text("\n".join(map(json.dumps, free)))
    return judged, others


def test_two_judgements_are_too_few_and_say_so(cli: Cli, two_judged: tuple[Path, Path], tmp_path: Path) -> None:
    judged, others = two_judged
    said = cli("label", others, "--labels", judged, "--out", tmp_path / "labels")
    assert said.code == 0, said.err
    assert "fewer than 20 judged pairs with votes" in said.err


def test_judgements_of_one_kind_do_not_teach_confusion_tables(
    cli: Cli, two_judged: tuple[Path, Path], tmp_path: Path
) -> None:
    judged, others = two_judged  # one is hidden at a time, so the other stands alone
    said = cli("label", others, "--labels", judged, "--label-model", "confusion", "--out", tmp_path / "labels")
    assert said.code == 2 and "the labels are all of one kind" in said.err
    assert not (tmp_path / "labels").exists()
