from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from assay.errors import ModelError
from assay.evaluation import accuracy, brier, calibration_error, evaluate, fit_temperature, nll
from assay.evaluation.evaluate import randomly_oriented
from assay.evaluation.terminal import render
from assay.evaluation.words import calibration_sentence, dependence_sentence, headline, verdict_of
from assay.feedback.pairs import pairs
from assay.feedback.records import comparison, edge, from_rows
from assay.output import write_json


def test_numbers_are_those_of_the_metrics(draw: Callable) -> None:
    data, delta = draw(150, ties=10)
    found = evaluate(data, delta, calibration=fit_temperature(delta, data.p), resamples=200)
    assert found.accuracy.value == pytest.approx(accuracy(delta, data.p))
    assert found.raw.nll.value == pytest.approx(nll(delta, data.p))
    assert found.raw.brier.value == pytest.approx(brier(delta, data.p))
    assert found.raw.ece.value == pytest.approx(calibration_error(delta, data.p).value)
    assert found.calibrated is not None and found.calibrated.nll.value <= found.raw.nll.value
    assert (found.n_pairs, found.n_groups, found.ties, found.accuracy.n) == (300, 75, 10, 290)


def test_orientation_of_the_records_does_not_matter(draw: Callable) -> None:
    data, delta = draw(100)
    turned, turned_delta, sign = randomly_oriented(data, delta, seed=9)
    assert 60 < np.sum(sign < 0) < 140
    one, two = evaluate(data, delta, resamples=100).to_dict(), evaluate(turned, turned_delta, resamples=100).to_dict()
    for key in ("accuracy", "ece", "nll", "brier", "by_margin", "by_length", "by_source"):
        assert json.dumps(one[key]) == pytest.approx(json.dumps(two[key])) or one[key] == pytest.approx(two[key])


def test_slices_partition_the_decided_judgements(draw: Callable) -> None:
    data, delta = draw(200, ties=7)
    found = evaluate(data, delta, resamples=50)
    lengths = found.by_length
    whole = found.accuracy.n
    assert sum(part.accuracy.n for part in found.by_margin) == whole
    assert sum(part.accuracy.n for part in lengths.bins) == whole
    assert sum(part.accuracy.n for part in found.by_source) == whole
    assert sum(p.accuracy.n for p in (lengths.longer_wins, lengths.shorter_wins, lengths.equal)) == whole
    right = sum(part.accuracy.n * part.accuracy.value for part in found.by_margin)
    assert right == pytest.approx(whole * found.accuracy.value)
    assert found.histogram.count.sum() == whole
    sizes = [part.accuracy.value for part in found.by_margin]
    assert sizes[-1] > sizes[0]  # the margins are those the labels were drawn from


def test_length_slices_know_which_response_is_the_better_one() -> None:
    rows = [
        comparison("1", ["long long", "short"], [edge(0, 1, 1.0)]),
        comparison("2", ["long long", "short"], [edge(0, 1, 0.0)]),
        comparison("3", ["short", "long long"], [edge(0, 1, 0.2)]),
        comparison("4", ["equal", "equal"], [edge(0, 1, 1.0)]),
    ]
    data = pairs(from_rows(rows))
    found = evaluate(data, (data.length_a - data.length_b).astype(float), resamples=20).by_length
    assert (found.longer_wins.accuracy.n, found.longer_wins.accuracy.value) == (2, 1.0)
    assert (found.shorter_wins.accuracy.n, found.shorter_wins.accuracy.value) == (1, 0.0)
    assert (found.equal.accuracy.n, found.equal.accuracy.value) == (1, 0.5)


def test_baselines_are_paired_and_reversed_below_one_half(draw: Callable) -> None:
    data, delta = draw(300, seed=4)
    wrong = -delta
    found = evaluate(data, delta, baselines={"weak": wrong, "same": delta * 2}, resamples=300)
    weak, same = found.baselines["weak"], found.baselines["same"]
    assert weak.accuracy.value == pytest.approx(1 - found.accuracy.value)
    assert weak.difference.value == pytest.approx(2 * found.accuracy.value - 1)
    assert weak.reversed_difference is not None and weak.reversed_difference.value == 0
    assert weak.verdict == "undecided", "a rule that errs most of the time, turned round, is as good as the model"
    assert (same.difference.value, same.reversed_difference, same.verdict) == (0, None, "undecided")
    # of so many groups none differs, which leaves room for few that do
    assert same.difference.ci95 is not None and same.difference.ci95[1] == -same.difference.ci95[0] < 0.03


def test_json_has_the_agreed_names(draw: Callable, tmp_path: Path) -> None:
    data, delta = draw(80)
    rng = np.random.default_rng(0)
    result = evaluate(
        data,
        delta,
        calibration=fit_temperature(delta, data.p),
        baselines={"length": rng.normal(size=len(data))},
        other=rng.normal(size=len(data)),
        resamples=100,
    )
    write_json(tmp_path / "metrics.json", result.to_dict())
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["by_length"]["equal"]["accuracy"] == {"value": None, "ci95": None, "n": 0}
    assert found["accuracy"]["ci95"][0] < found["accuracy"]["value"] < found["accuracy"]["ci95"][1]
    for values in (found, found["calibrated"]):
        assert all(isinstance(values[name], float) for name in ("nll", "brier", "ece", "ece_debiased"))
        assert len(values["ece_null_band95"]) == len(values["nll_ci95"]) == 2
    assert isinstance(found["baselines"]["length"]["accuracy"], float)
    assert found["against"]["verdict"] == "better" and found["baselines"]["length"]["difference"]["ci95"][0] > 0
    assert "nll_hard" not in found


def test_soft_targets_bring_hard_figures_too(draw: Callable) -> None:
    data, delta = draw(80)
    soft = replace(data, p=0.1 + 0.8 * data.p)
    found = evaluate(soft, delta, resamples=50)
    assert found.raw.nll_hard == pytest.approx(nll(delta, data.p))
    assert found.raw.brier_hard == pytest.approx(brier(delta, data.p))
    assert found.raw.ece_soft is not None and "ece_soft" in found.to_dict()


def test_weights_count(draw: Callable) -> None:
    data, delta = draw(60)
    heavy = replace(data, w=np.where(np.arange(len(data)) < 40, 1.0, 0.0))
    found = evaluate(heavy, delta, resamples=50)
    assert found.accuracy.value == pytest.approx(accuracy(delta[:40], data.p[:40]))
    assert found.raw.nll.value == pytest.approx(nll(delta[:40], data.p[:40]))
    assert found.zero_weight == 80


def test_bad_margins_are_refused(draw: Callable) -> None:
    data, delta = draw(10)
    with pytest.raises(ValueError, match="one margin for each of 20"):
        evaluate(data, delta[:-1])
    with pytest.raises(ModelError, match="3 of 20 margins are NaN"):
        evaluate(data, np.where(np.arange(20) < 3, np.nan, delta))
    with pytest.raises(ModelError, match="baseline length"):
        evaluate(data, delta, baselines={"length": np.full(20, np.inf)})


@pytest.mark.parametrize("targets", [[], [0.5, 0.5, 0.5], [1.0]])
def test_nearly_nothing_to_judge(targets: list[float]) -> None:
    rows = [comparison(f"{k}", ["a", "bb"], [edge(0, 1, p)]) for k, p in enumerate(targets)]
    data = pairs(from_rows(rows or [comparison("none", ["a", "b"])]))
    found = evaluate(data, np.ones(len(data)), baselines={"length": np.ones(len(data))}, resamples=20)
    assert found.n_pairs == len(targets) and found.accuracy.ci95 is None
    found.to_dict()
    render(found, Console(file=io.StringIO()))


def test_the_terminal_shows_the_numbers_and_no_markup(draw: Callable) -> None:
    data, delta = draw(80)
    data = replace(data, source=np.where(np.arange(len(data)) % 2, "[red]x[/red]", "person"))
    found = evaluate(data, delta, baselines={"length": -delta * 0.1}, resamples=100)
    stream = io.StringIO()
    render(found, Console(file=stream, width=160))
    text = stream.getvalue()
    assert f"{100 * found.accuracy.value:.1f} %" in text and "[red]x[/red]" in text
    assert f"{found.raw.ece.value:.4f}" in text
    assert "always choosing the shorter one gets" in " ".join(text.split())


def test_words_of_verdicts(draw: Callable) -> None:
    data, delta = draw(300, seed=4)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(data))
    assert verdict_of(evaluate(data, delta, resamples=200))[0] == "none"
    assert verdict_of(evaluate(data, delta, baselines={"length": noise}, resamples=200))[0] == "better"
    assert verdict_of(evaluate(data, noise, baselines={"length": delta}, resamples=200))[0] == "worse"
    both = {"length": noise, "bag_of_words": delta * 2}
    mixed = evaluate(data, delta, baselines=both, resamples=200)
    kind, sentence = verdict_of(mixed)
    assert kind == "undecided" and "beats always choosing the longer response beyond chance, but not" in sentence
    assert "a coin gets 50 %" in headline(mixed) and "600 held-out judgements" in headline(mixed)


def test_many_judgements_of_one_group_are_a_reason_for_caution(draw: Callable) -> None:
    many, few = draw(20, judgements=30), draw(60, judgements=2)
    caution = dependence_sentence(evaluate(*many, resamples=200))
    assert caution is not None and "60 judgements to a group" in caution
    assert dependence_sentence(evaluate(*few, resamples=200)) is None


@pytest.mark.parametrize(("factor", "kind"), [(1.0, "no sign of"), (4.0, "over-confident"), (0.25, "under-confident")])
def test_the_sentence_on_calibration_follows_the_confidence(factor: float, kind: str, draw: Callable) -> None:
    data, delta = draw(600, judgements=2, seed=1)
    assert kind in calibration_sentence(evaluate(data, factor * delta, resamples=200).raw)
