"""``assay label`` from the command line: what it writes, what it tells, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from assay.feedback import pairs, read
from tests.workflows.conftest import Cli, metrics_of, tree


@pytest.fixture
def unjudged(tmp_path: Path, many_pairs: Path) -> Path:
    """Write half of the pairs without their judgements, as a list of responses."""
    rows = [json.loads(line) for line in many_pairs.read_text().splitlines()]
    path = tmp_path / "unjudged.jsonl"
    lines = [
        json.dumps({"prompt": row["prompt"], "responses": [row["chosen"], row["rejected"]], "edges": []})
        for row in rows[130:]
    ]
    path.write_text("\n".join(lines))
    return path


def test_labels_hide_what_they_are_judged_by(cli: Cli, many_pairs: Path, own: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    said = cli("label", many_pairs, "--functions", own, "--presets", "none", "--out", out, "--calibration-share", 0.3)
    assert said.code == 0, said.err
    assert "good_words" in said.out and "hidden judgements" in said.out
    assert tree(out) == [
        ".assay",
        "metrics.json",
        "records",
        "records/human.parquet",
        "records/weak.parquet",
        "report.html",
    ]
    found = metrics_of(out)
    counts, told = found["counts"], found["hidden_judgements"]
    assert counts["teaching"] + counts["to_label"] == 260
    assert counts["labelled"] + counts["without_a_vote"] == counts["to_label"]
    assert told["accuracy"]["value"] == pytest.approx(0.85, abs=0.08)
    assert told["ece"] < told["ece_null_band95"][1] + 0.05
    both = read(str(out / "records"))
    view = pairs(both)
    weak = view.source == "weak"
    assert weak.sum() == counts["labelled"] and (~weak).sum() == counts["teaching"]
    assert ((view.p[weak] > 0) & (view.p[weak] < 1)).all() and view.p[weak].std() > 0.1
    # what taught is on no side of the rest
    assert not set(view.group[weak]) & set(view.group[~weak])
    report = (out / "report.html").read_text()
    assert "good_words" in report and "Shared errors" in report and "http" not in report


def test_weak_labels_say_of_each_pair_what_the_label_model_says(
    cli: Cli, many_pairs: Path, own: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    assert cli("label", many_pairs, "--functions", own, "--presets", "", "--out", out).code == 0
    rows = map(json.loads, many_pairs.read_text().splitlines())
    truth = {(row["prompt"], row["chosen"], row["rejected"]) for row in rows}
    view = pairs(read(str(out / "records" / "weak.parquet")))
    agree = []
    for i in range(len(view)):
        prompt, a, b = view.texts(i)
        asked = prompt[0]["content"]
        assert ((asked, a, b) in truth) != ((asked, b, a) in truth)
        agree.append((view.p[i] > 0.5) == ((asked, a, b) in truth))
    assert np.mean(agree) == pytest.approx(metrics_of(out)["hidden_judgements"]["accuracy"]["value"], abs=0.02)


def test_pairs_that_nobody_judged_are_labelled_by_other_judgements(
    cli: Cli, many_pairs: Path, unjudged: Path, own: Path, tmp_path: Path
) -> None:
    judged = tmp_path / "judged.jsonl"
    judged.write_text("\n".join(many_pairs.read_text().splitlines()[:130]))
    out = tmp_path / "labels"
    said = cli("label", unjudged, "--labels", judged, "--functions", own, "--presets", "", "--out", out)
    assert said.code == 0, said.err
    found = metrics_of(out)
    assert found["counts"]["teaching"] == 130 and found["hidden_judgements"] is None
    assert found["label_model"]["name"] == "correlated"
    assert "No judgement was left" in (out / "report.html").read_text()


def test_without_judgements_votes_alone_weigh(cli: Cli, unjudged: Path, own: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    said = cli("label", unjudged, "--functions", own, "--presets", "general", "--out", out)
    assert said.code == 0, said.err
    found = metrics_of(out)
    assert found["label_model"]["name"] == "symmetric" and found["calibration"] is None
    assert "no judgement teaches here" in said.err
    assert tree(out / "records") == ["weak.parquet"]


def test_thresholds_and_bounds_send_the_rest_to_people(cli: Cli, many_pairs: Path, own: Path, tmp_path: Path) -> None:
    options = ("--functions", own, "--calibration-share", 0.5)
    kept = {}
    for name, keep in (
        ("all", ()),
        ("sure", ("--keep.kind", "confident", "--keep.least", 0.8)),
        ("risk", ("--keep.kind", "risk", "--keep.error", 0.12, "--hard", "--test-share", 0.2)),
    ):
        done = cli("label", many_pairs, *options, *keep, "--out", tmp_path / name)
        assert done.code == 0, done.err
        said = done.out
        counts = metrics_of(tmp_path / name)["counts"]
        kept[name] = counts["labelled"]
        assert counts["labelled"] + counts["not_sure_enough"] + counts["without_a_vote"] == counts["to_label"]
        people = tmp_path / name / "for_people.jsonl"
        assert people.exists() == (name != "all")
        assert counts["for_people"] == (len(people.read_text().splitlines()) if people.exists() else 0)
    assert kept["sure"] < kept["all"]
    risk = metrics_of(tmp_path / "risk")["risk"]
    assert risk["error"] == 0.12 and risk["wrong"] <= 0.12 and risk["n"] > 20
    weak = pairs(read(str(tmp_path / "risk" / "records" / "weak.parquet")))
    assert set(weak.p.tolist()) <= {0.0, 1.0}
    assert "of all pairs at most 12.0% are to be wrong, in expectation; on hidden judgements" in said
    assert metrics_of(tmp_path / "risk")["hidden_judgements"]["wrong_of_all"]["n"] > 20
    test = pairs(read(str(tmp_path / "risk" / "test.parquet")))
    assert len(test) > 20 and not set(test.group) & set(weak.group)


def test_bound_on_given_labels(cli: Cli, many_pairs: Path, own: Path, tmp_path: Path) -> None:
    options = ("--functions", own, "--presets", "", "--calibration-share", 0.6, "--out", tmp_path / "labels")
    bound = ("--keep.kind", "risk", "--keep.of", "labelled")
    said = cli("label", many_pairs, *options, *bound, "--keep.error", 0.4, "--keep.certainty", 0.8)
    assert said.code == 0, said.err
    assert "of the labels at most 40.0% are to be wrong, with certainty 80%; on hidden judgements" in said.out
    risk = metrics_of(tmp_path / "labels")["risk"]
    assert risk["of"] == "labelled" and 0 < risk["wrong"] < 0.4 * risk["kept"]
    assert "of the labels, with certainty 80" in (tmp_path / "labels" / "report.html").read_text()
    said = cli("label", many_pairs, *options, *bound, "--keep.error", 0.01, "--overwrite")
    assert said.code == 2 and "at most 1.0% of labelled pairs with a wrong label" in said.err


def test_exploring_writes_windows_that_labelling_takes(cli: Cli, many_pairs: Path, own: Path, tmp_path: Path) -> None:
    options = ("--functions", own, "--presets", "", "--calibration-share", 0.5)
    said = cli("label", many_pairs, *options, "--explore", "--out", tmp_path / "found")
    assert said.code == 0, said.err
    windows = tmp_path / "found" / "windows.yaml"
    assert "good_words" in windows.read_text()
    again = cli("label", many_pairs, *options, "--windows", windows, "--out", tmp_path / "labels")
    assert again.code == 0, again.err


def test_dry_run_writes_nothing(cli: Cli, many_pairs: Path, tmp_path: Path) -> None:
    said = cli("label", many_pairs, "--dry-run", "--out", tmp_path / "labels")
    assert said.code == 0 and "would label" in said.out and not (tmp_path / "labels").exists()


def test_only_ties_teach_nothing_and_that_is_said(cli: Cli, tmp_path: Path) -> None:
    even = [{"a": 0, "b": 1, "p": 0.5}]
    rows = [
        {"prompt": f"p{i}", "responses": ["short", "much longer " * (2 + i)], "edges": even if i < 9 else []}
        for i in range(40)
    ]
    path = tmp_path / "even.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    said = cli("label", path, "--out", tmp_path / "labels")
    assert said.code == 0, said.err
    assert "the 9 judgements are all even, so no judgement teaches here" in said.err


def test_records_without_a_judgement_teach_nothing(
    cli: Cli, many_pairs: Path, unjudged: Path, own: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed.jsonl"
    other = [{"prompt": f"o{i}", "responses": ["fine", "nonsense"], "edges": []} for i in range(7)]
    judged = [
        {"prompt": row["prompt"], "responses": [row["chosen"], row["rejected"]], "edges": [{"a": 0, "b": 1}]}
        for row in map(json.loads, many_pairs.read_text().splitlines()[:130])
    ]
    mixed.write_text("\n".join(map(json.dumps, judged + other)))
    said = cli("label", unjudged, "--labels", mixed, "--functions", own, "--out", tmp_path / "labels")
    assert said.code == 0, said.err
    assert "left out 7 records" in said.err and metrics_of(tmp_path / "labels")["counts"]["to_label"] == 390
    mixed.write_text("\n".join(map(json.dumps, other)))
    said = cli("label", unjudged, "--labels", mixed, "--functions", own)
    assert said.code == 2 and "nothing is judged there" in said.err


def test_all_judgements_teach_where_many_prompts_are_unjudged(
    cli: Cli, many_pairs: Path, tmp_path: Path, own: Path
) -> None:
    rows = [json.loads(line) for line in many_pairs.read_text().splitlines()[::2]]
    rows = [{"prompt": row["prompt"], "responses": [row["chosen"], row["rejected"]]} for row in rows]
    path = tmp_path / "data.jsonl"
    for unjudged, says in ((1, "10% of the judged prompts teach, the others judge"), (40, "all judgements teach")):
        for number, row in enumerate(rows):
            row["edges"] = [{"a": 0, "b": 1}] * (number >= unjudged)
        path.write_text("\n".join(map(json.dumps, rows)))
        said = cli("label", path, "--functions", own, "--presets", "", "--out", tmp_path / "labels", "--overwrite")
        assert said.code == 0 and says in said.err, said.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--presets", "hhh"), "no such preset"),
        (("--presets", ""), "nothing would vote"),
        (("--only", "lenght"), "did you mean 'length'"),
        (("--only", "length", "--without", "numbers"), "use one of them"),
        (("--functions", "nowhere.py"), "there is no such file"),
        (("--windows", "nowhere.yaml"), "the windows cannot be read"),
        (("--label-model", "snorkel"), "--label-model: expected"),
        (("--only", "refusal"), "nobody voted"),
        (("--calibration-share", "1"), "no pair left to label"),
        (("--explore", "--hard"), "labels nothing"),
        (("--labels", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--keep.kind", "risk", "--keep.error", "1.5"), "keep.error"),
        (("--keep.kind", "risk", "--keep.certainty", "0.95"), "belongs to --keep.of labelled"),
    ],
)
def test_wrong_settings_are_told(
    cli: Cli, many_pairs: Path, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    said = cli("label", many_pairs, "--out", tmp_path / "labels", *options)
    assert said.code == 2 and says in said.err, said.err
    assert not (tmp_path / "labels").exists()


def test_responses_without_a_second_one(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "single.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"p{i}", "responses": ["one"], "edges": []}) for i in range(5)))
    said = cli("label", path)
    assert said.code == 2 and "one response only" in said.err


def test_model_trained_on_weak_labels_is_calibrated_on_people(
    cli: Cli, many_pairs: Path, own: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    labels, model = tmp_path / "labels", tmp_path / "model"
    assert cli("label", many_pairs, "--functions", own, "--calibration-share", 0.3, "--out", labels).code == 0
    said = cli(
        "train", labels / "records", "--backbone", tiny_encoder, "--freeze-backbone", "--epochs", 2,
        "--test-share", 0, "--out", model,
    )  # fmt: skip
    assert said.code == 0, said.err
    stored = json.loads((model / "model" / "assay.json").read_text())
    assert stored["calibration"]["n"] == metrics_of(labels)["counts"]["teaching"]


def test_no_label_is_no_result(cli: Cli, many_pairs: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "labels", "--calibration-share", 0.2)
    said = cli("label", many_pairs, "--keep.kind", "risk", "--keep.error", 0.01, *out)
    assert said.code == 2 and "no label can be promised" in said.err, said.err
    said = cli("label", many_pairs, "--keep.kind", "confident", "--keep.least", 0.999, *out)
    assert said.code == 2 and "the surest label at" in said.err, said.err
    assert not (tmp_path / "labels").exists()


def test_weak_records_hold_nothing_that_people_said(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {
            "instruction": f"q {i}",
            "generations": ["good answer", "an answer " * (i % 7)],
            "ratings": [5, 1 + i % 2],
            "x": "y",
        }
        for i in range(80)
    ]
    path = tmp_path / "graded.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    said = cli("label", path, "--only", "length", "--calibration-share", 0.5, "--out", tmp_path / "labels")
    assert said.code == 0, said.err
    for row in read(str(tmp_path / "labels" / "records" / "weak.parquet")):
        assert row["grades"] == [[], []] and row["meta"] is None and row["edges"][0]["source"] == "weak"
    human = read(str(tmp_path / "labels" / "records" / "human.parquet"))
    assert human[0]["grades"][0]


def test_prompts_of_the_test_do_not_teach_from_elsewhere(cli: Cli, many_pairs: Path, own: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.jsonl"
    part.write_text("\n".join(many_pairs.read_text().splitlines()[:200]))
    options = ("--functions", own, "--labels", many_pairs, "--test-share", 0.3)
    said = cli("label", part, *options, "--out", tmp_path / "labels")
    assert said.code == 0, said.err
    test, human = (pairs(read(str(tmp_path / "labels" / name))) for name in ("test.parquet", "records/human.parquet"))
    assert len(test) > 40 and len(human) == 60 and not set(test.group) & set(human.group)
    said = cli("label", many_pairs, *options)
    assert said.code == 2 and "every judged prompt is also among those to be labelled" in said.err


def test_judgements_may_have_other_columns(cli: Cli, many_pairs: Path, own: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in many_pairs.read_text().splitlines()]
    data, judged = tmp_path / "data.jsonl", tmp_path / "judged.jsonl"
    data.write_text("\n".join(json.dumps({"q": r["prompt"], "x": [r["chosen"], r["rejected"]]}) for r in rows[130:]))
    judged.write_text(
        "\n".join(json.dumps({"ask": r["prompt"], "good": r["chosen"], "bad": r["rejected"]}) for r in rows[:130])
    )
    options = ("--labels", judged, "--mapping.prompt", "q", "--mapping.responses", "x", "--functions", own)
    theirs = ("--labels-mapping.prompt", "ask", "--labels-mapping.chosen", "good", "--labels-mapping.rejected", "bad")
    said = cli("label", data, *options, *theirs, "--out", tmp_path / "labels")
    assert said.code == 0, said.err
    assert metrics_of(tmp_path / "labels")["counts"]["teaching"] == 130
    said = cli("label", data, *theirs)
    assert said.code == 2 and "says what the columns of --labels are" in said.err


def test_pairs_of_judged_prompts_that_nobody_compared(cli: Cli, many_pairs: Path, own: Path, tmp_path: Path) -> None:
    options = ("--functions", own, "--presets", "", "--calibration-share", 0.5)
    said = cli("label", many_pairs, *options, "--out", tmp_path / "few")
    assert "pairs of judged prompts, which nobody compared, are not labelled" in said.err
    left = int(re.search(r"([0-9,]+) pairs of judged prompts", said.err).group(1))  # type: ignore[union-attr]
    said = cli("label", many_pairs, *options, "--pairs-of-judged", "--out", tmp_path / "all")
    assert said.code == 0 and "nobody compared" not in said.err
    few, more = (metrics_of(tmp_path / name)["counts"] for name in ("few", "all"))
    assert more["to_label"] - few["to_label"] == left > 400 and more["teaching"] == few["teaching"]
    seen = pairs(read(str(tmp_path / "all" / "records" / "weak.parquet")))
    assert len({(seen.row[i], seen.a[i], seen.b[i]) for i in range(len(seen))}) == len(seen) == more["labelled"]
