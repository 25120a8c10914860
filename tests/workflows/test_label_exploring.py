"""``assay label --explore`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.workflows.conftest import OWN, Cli, metrics_of


def test_hidden_judgements_choose_nothing(cli: Cli, many_pairs: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(OWN)
    options = (many_pairs, "--functions", own, "--calibration-share", 0.3, "--test-share", 0.2, "--seed", 3)
    assert cli("label", *options, "--explore", "--out", tmp_path / "found").code == 0
    found = metrics_of(tmp_path / "found")
    assert (
        cli("label", *options, "--windows", tmp_path / "found" / "windows.yaml", "--out", tmp_path / "labels").code == 0
    )
    assert metrics_of(tmp_path / "labels")["counts"]["teaching"] == found["pairs"]
    # what nobody explored may be turned round, and nothing is found otherwise
    hidden = {row["prompt"] for row in read_weak(tmp_path / "labels")}
    rows = [json.loads(line) for line in many_pairs.read_text().splitlines()]
    for row in rows:
        if row["prompt"] in hidden:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    turned = tmp_path / "turned.jsonl"
    turned.write_text("\n".join(map(json.dumps, rows)))
    assert cli("label", turned, *options[1:], "--explore", "--out", tmp_path / "again").code == 0
    assert metrics_of(tmp_path / "again")["proposals"] == found["proposals"]


def read_weak(folder: Path) -> list[dict]:
    from assay.feedback import read

    return [{"prompt": row["prompt"][0]["content"]} for row in read(str(folder / "records" / "weak.parquet"))]


def test_functions_without_a_feature_are_ranked_and_largest_differences_stay(
    cli: Cli, many_pairs: Path, tmp_path: Path
) -> None:
    own = tmp_path / "mine.py"
    own.write_text(OWN.replace("@feature_function(least=1)\ndef good", "@feature_function(least=1, most=4)\ndef good"))
    out = tmp_path / "found"
    for workers in (1, 2):
        said = cli(
            "label", many_pairs, "--functions", own, "--presets", "", "--calibration-share", 1, "--explore",
            "--workers", workers, "--out", out, "--overwrite",
        )  # fmt: skip
        assert said.code == 0, said.err
    proposals = {each["name"]: each for each in metrics_of(out)["proposals"]}
    assert proposals["clear"]["holds"] and proposals["clear"]["least"] == 1
    windows = yaml.safe_load((out / "windows.yaml").read_text())
    assert windows["good_words"]["most"] == 4 and windows["good_words"]["prefers"] == "more"
    assert "clear" not in windows and "most" not in windows["nonsense"]


def test_nothing_that_holds_is_told(cli: Cli, many_pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    said = cli("label", many_pairs, "--calibration-share", 0.05, "--explore", "--out", out)
    assert said.code == 0 and "no window holds" in said.out and "--calibration-share" in said.out, said.err
    assert yaml.safe_load((tmp_path / "found" / "windows.yaml").read_text()) == {}
    again = cli("label", many_pairs, "--windows", tmp_path / "found" / "windows.yaml", "--out", tmp_path / "labels")
    assert again.code == 0, again.err
