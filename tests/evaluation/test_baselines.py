from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from assay.errors import ModelError
from assay.evaluation import BagOfWords, LengthBaseline, accuracy, nll
from assay.feedback.pairs import pairs
from assay.feedback.records import comparison, edge, from_rows

Kind = type[LengthBaseline] | type[BagOfWords]


def test_length_is_the_plain_rule_even_where_it_is_wrong(draw: Callable) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(200):
        sizes = rng.integers(1, 60, 2)
        shorter_wins = float((sizes[0] < sizes[1]) == (rng.random() < 0.8))
        rows.append(comparison(f"p{number}", ["x" * k for k in sizes], [edge(0, 1, shorter_wins)]))
    data = pairs(from_rows(rows))
    baseline = LengthBaseline().fit(data)
    delta = baseline.delta(data)
    assert np.array_equal(np.sign(delta), np.sign(data.length_a - data.length_b))
    assert accuracy(delta, data.p) < 0.35
    assert baseline.temperature is not None and "no_signal" in baseline.temperature.flags
    assert np.abs(expit(delta) - 0.5).max() < 0.01


def test_bag_of_words_learns_words_and_beats_length(draw: Callable) -> None:
    (train, _), (test, _) = draw(600, 1, seed=1), draw(300, 1, seed=2)
    words, length = BagOfWords().fit(train), LengthBaseline().fit(train)
    assert accuracy(words.delta(test), test.p) > accuracy(length.delta(test), test.p) + 0.15
    assert nll(words.delta(test), test.p) < 0.6
    assert words.strongest_words(3)["for"][0][0] in {f"word{k}" for k in range(45, 60)}


def test_bag_of_words_is_the_regularised_maximum_of_likelihood() -> None:
    """Against a general optimiser on hand-made features; C = 0.5, soft and weighted targets."""
    texts = [["a a b", "b c"], ["c c a", "a b b"], ["b a c", "c"], ["a b", "b a a c c"]]
    p, w = np.array([1.0, 0.3, 0.8, 0.0]), np.array([1.0, 2.0, 0.5, 1.0])
    rows = [comparison(f"{k}", t, [edge(0, 1, p[k], w=w[k])]) for k, t in enumerate(texts)]
    data = pairs(from_rows(rows))
    fitted = BagOfWords(min_responses=1, strength=0.5).fit(data)
    counts = np.array([[[text.split().count(c) for c in "abc"] for text in two] for two in texts])
    x = np.log1p(counts[:, 0]) - np.log1p(counts[:, 1])

    def loss(weights: np.ndarray) -> float:
        return 0.5 * weights @ weights + 0.5 * w.sum() * nll(x @ weights, p, w)

    best = minimize(loss, np.zeros(3), tol=1e-12).x
    assert fitted.words == ["a", "b", "c"]
    assert fitted.weights == pytest.approx(best, abs=1e-3)
    assert fitted.delta(data) == pytest.approx(x @ best, abs=2e-3)


def test_exchanging_sides_negates_the_margin(draw: Callable) -> None:
    data, _ = draw(60, 1)
    rows = [dict(row) for row in data.data]
    for row in rows:
        row["edges"] = [{**e, "a": e["b"], "b": e["a"], "p": 1 - e["p"]} for e in row["edges"]]
    turned = pairs(from_rows(rows))
    for make in (LengthBaseline, lambda: BagOfWords(strength=0.1)):
        delta = make().fit(data).delta(data)
        assert make().fit(turned).delta(turned) == pytest.approx(-delta, abs=1e-3)


def test_repeated_and_reversed_edges_read_each_text_once() -> None:
    rows = [
        comparison("p", ["good good", "bad", "middling"], [edge(0, 1), edge(2, 1), edge(1, 0, 0.0), edge(0, 2)]),
        comparison("q", ["never judged"], []),
        comparison("r", ["bad", "good"], [edge(1, 0)]),
    ]
    data = pairs(from_rows(rows))
    fitted = BagOfWords(min_responses=1, strength=1.0).fit(data)
    delta = fitted.delta(data)
    assert delta[0] == pytest.approx(-delta[2]) and delta[0] == pytest.approx(delta[1] + delta[3])
    assert "never" not in fitted.words and np.all(delta[[0, 4]] > 0)


@pytest.mark.parametrize("kind", [LengthBaseline, BagOfWords])
def test_saved_and_loaded_gives_the_same_margins(kind: Kind, draw: Callable, tmp_path: Path) -> None:
    data, _ = draw(60)
    fitted = kind().fit(data)
    fitted.save(tmp_path / "baselines")
    assert np.array_equal(kind.load(tmp_path / "baselines").delta(data), fitted.delta(data))


@pytest.mark.parametrize("kind", [LengthBaseline, BagOfWords])
def test_missing_damaged_and_unfitted(kind: Kind, draw: Callable, tmp_path: Path) -> None:
    data, _ = draw(10)
    with pytest.raises(ModelError, match="not fitted"):
        kind().delta(data)
    with pytest.raises(ModelError, match="not fitted"):
        kind().save(tmp_path)
    with pytest.raises(ModelError, match="missing"):
        kind.load(tmp_path)
    (tmp_path / f"{kind.name}.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        kind.load(tmp_path)


def test_weights_that_do_not_match_the_words_are_refused(draw: Callable, tmp_path: Path) -> None:
    data, _ = draw(30)
    BagOfWords(strength=0.1).fit(data).save(tmp_path)
    np.savez_compressed(tmp_path / "bag_of_words.npz", weights=np.zeros(3))
    with pytest.raises(ModelError, match="one weight for each"):
        BagOfWords.load(tmp_path)


@pytest.mark.parametrize("texts_and_target", [(["a", "b"], 0.5), (["", " "], 1.0)])
def test_where_there_is_nothing_to_learn_every_margin_is_zero(
    texts_and_target: tuple[list[str], float], tmp_path: Path
) -> None:
    texts, target = texts_and_target
    data = pairs(from_rows([comparison("p", texts, [edge(0, 1, target)])]))
    BagOfWords().fit(data).save(tmp_path)
    assert BagOfWords.load(tmp_path).delta(data).tolist() == [0.0]


def test_words_that_occur_once_are_used_where_none_occurs_twice() -> None:
    rows = [comparison(f"p{i}", [f"good{i}", f"bad{i}"], [edge(0, 1)]) for i in range(30)]
    data = pairs(from_rows(rows))
    baseline = BagOfWords().fit(data)
    assert len(baseline.words) == 60
    assert accuracy(baseline.delta(data), data.p) == 1.0


def test_scripts_without_spaces_are_counted_by_character() -> None:
    good = ["这很好", "答得好", "好回答", "说明好"]
    rows = [comparison(f"p{i}", [text, text.replace("好", "坏")], [edge(0, 1)]) for i, text in enumerate(good * 3)]
    baseline = BagOfWords().fit(pairs(from_rows(rows)))
    assert baseline.strongest_words(1)["for"][0][0] == "好"
    new = pairs(from_rows([comparison("q", ["天气坏", "天气好"], [edge(1, 0)])]))
    assert accuracy(baseline.delta(new), new.p) == 1.0


@pytest.mark.parametrize("content", [b"", b"PK torn", b"not a zip at all"])
def test_damaged_weights_name_their_place(tmp_path: Path, content: bytes) -> None:
    baseline = BagOfWords()
    baseline.words, baseline.weights = ["a"], np.ones(1)
    baseline.save(tmp_path)
    (tmp_path / "bag_of_words.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"bag_of_words\.npz"):
        BagOfWords.load(tmp_path)
