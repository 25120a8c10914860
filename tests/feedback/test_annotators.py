"""Several annotators: shares, qualities, agreement, and the ceiling that noise puts on accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from assay.errors import DataError
from assay.feedback import comparison, edge, from_rows, pairs
from assay.feedback.annotators import agreement, agreement_of_each, dawid_skene, noise_ceiling, pooled, votes

GOOD = (0.95, 0.8, 0.6, 0.55)


def crowd(items: int = 600, seed: int = 0, qualities: tuple[float, ...] = GOOD) -> tuple[Dataset, np.ndarray]:
    """Return records that annotators of known quality judged, naming the pair in either order, and what is true."""
    random = np.random.default_rng(seed)
    rows, truth = [], random.random(items) < 0.5
    for item, first in enumerate(truth):
        judged = []
        for number, quality in enumerate(qualities):
            says_first = bool(first) == (random.random() < quality)
            ends = (0, 1) if says_first else (1, 0)
            turned = random.random() < 0.5  # (b, a) with p = 0 says the same
            judged.append(edge(*(ends[::-1] if turned else ends), p=0.0 if turned else 1.0, annotator=f"w{number}"))
        rows.append(comparison(f"Q{item}", ["one", "two"], judged))
    return from_rows(rows), truth


def test_qualities_and_truths_are_recovered() -> None:
    data, truth = crowd()
    found = dawid_skene(votes(pairs(data)))
    np.testing.assert_allclose(found.accuracy, GOOD, atol=0.06)
    share = pooled(pairs(data), "share").p
    right = {name: float(((p > 0.5) == truth)[p != 0.5].mean()) for name, p in
             (("posterior", found.posterior), ("share", share))}  # fmt: skip
    assert right["posterior"] > 0.93 and right["posterior"] > right["share"]
    assert list(found.count) == [600] * 4 and found.rounds < 500


def test_the_order_in_which_a_pair_is_named_does_not_matter() -> None:
    data, _ = crowd(100)
    view = pairs(data)
    from assay.feedback.algebra import swap

    turned = swap(view, np.random.default_rng(3).random(len(view)) < 0.5)
    np.testing.assert_allclose(pooled(turned, "dawid_skene").p, pooled(view, "dawid_skene").p, atol=1e-12)
    np.testing.assert_allclose(pooled(turned).p, pooled(view).p, atol=1e-12)


@pytest.mark.filterwarnings("ignore")  # crowd-kit uses what pandas is about to drop
def test_it_agrees_with_crowd_kit() -> None:
    aggregation = pytest.importorskip("crowdkit.aggregation")
    import pandas as pd

    data, _ = crowd()
    given = votes(pairs(data))
    frame = pd.DataFrame({"task": given.unit, "worker": given.annotator, "label": given.verdict.astype(int)})
    peer = aggregation.OneCoinDawidSkene(n_iter=200, tol=1e-9).fit(frame)
    found = dawid_skene(given, prior=(1.0 + 1e-9, 1.0 + 1e-9))
    np.testing.assert_allclose(found.accuracy, peer.skills_.sort_index(), atol=0.02)
    agree = (found.posterior > 0.5) == (peer.labels_.sort_index() == 1)
    assert agree.mean() > 0.99


def test_nothing_tells_quality_without_second_opinions() -> None:
    data, _ = crowd(20, qualities=(0.9,))
    with pytest.raises(DataError, match="no pair was judged twice"):
        dawid_skene(votes(pairs(data)))


def test_an_annotator_with_one_vote_stays_near_the_prior() -> None:
    data, _ = crowd(200, qualities=(0.9, 0.8))
    rows = list(data)
    rows[0]["edges"].append(edge(0, 1, annotator="once"))
    found = dawid_skene(votes(pairs(from_rows(rows))))
    assert found.count[0] == 1 and 0.6 < found.accuracy[0] < 0.85


def test_shares_are_weighted_and_ties_count_half() -> None:
    judged = [edge(0, 1, annotator="a"), edge(1, 0, annotator="b"), edge(0, 1, 0.5, w=2.0, annotator="c")]
    found = pooled(pairs(from_rows([comparison("Q", ["one", "two"], judged)])))
    assert len(found) == 1 and found.p[0] == 0.5 and found.w[0] == pytest.approx(4 / 3)
    one_more = pooled(pairs(from_rows([comparison("Q", ["one", "two"], [*judged, edge(0, 1)])])))
    assert one_more.p[0] == pytest.approx(0.6)


def test_agreement() -> None:
    data, _ = crowd(300, qualities=(1.0, 1.0))
    found = agreement(votes(pairs(data)), resamples=50)
    assert found["alpha"] == pytest.approx(1.0) and found["agreeing"] == 1.0 and found["units"] == 300
    noisy = agreement(votes(pairs(crowd(300, qualities=(0.8, 0.8))[0])), resamples=200)
    # two annotators of quality q agree q^2 + (1-q)^2 of the time; with even verdicts alpha is 2 * that - 1
    expected = 2 * (0.8**2 + 0.2**2) - 1
    assert noisy["ci95"][0] < expected < noisy["ci95"][1]
    assert noisy["agreeing"] == pytest.approx((1 + noisy["alpha"]) / 2, abs=0.01)
    random = agreement(votes(pairs(crowd(300, qualities=(0.5, 0.5))[0])), resamples=200)
    assert random["ci95"][0] < 0 < random["ci95"][1]
    alone = agreement(votes(pairs(crowd(3, qualities=(0.9,))[0])))
    assert alone["alpha"] is None and alone["units"] == 0


def test_noise_ceiling_brackets_the_best_accuracy() -> None:
    random = np.random.default_rng(0)
    for sure in (random.random(10**5), np.full(10**5, 0.6), random.integers(0, 2, 10**5).astype(float)):
        right = (1 + sure) / 2
        agreeing = float((right**2 + (1 - right) ** 2).mean())
        low, high = noise_ceiling(agreeing)
        assert low - 1e-9 <= float(right.mean()) <= high + 1e-9
    assert noise_ceiling(1.0) == (1.0, 1.0)
    assert noise_ceiling(0.4) == (0.5, 0.5)


def test_to_agree_with_oneself_is_no_agreement() -> None:
    random = np.random.default_rng(0)
    rows, once = [], []
    for item in range(60):
        anna, bert = ((0, 1) if random.random() < 0.5 else (1, 0) for _ in range(2))
        said = [edge(*anna, annotator="anna"), edge(*bert, annotator="bert")]
        once.append(comparison(f"Q{item}", ["one", "two"], said))
        rows.append(comparison(f"Q{item}", ["one", "two"], [said[0], *said, said[0]]))
    repeated, plain = (votes(pairs(from_rows(own))) for own in (rows, once))
    assert agreement(repeated) == agreement(plain)
    assert agreement_of_each(repeated) == agreement_of_each(plain)
    assert agreement_of_each(plain)["anna"][1] == 60


def test_a_soft_verdict_is_one_and_no_tie() -> None:
    said = [edge(0, 1, 0.7, annotator="anna"), edge(0, 1, 0.3, annotator="bert")]
    found = agreement(votes(pairs(from_rows([comparison(f"Q{k}", ["one", "two"], said) for k in range(5)]))))
    assert found["agreeing"] == 0 and found["alpha"] < 0
