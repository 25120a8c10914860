from __future__ import annotations

import math

import numpy as np
import pytest

from assay.evaluation import Estimate, GroupBootstrap


def test_agrees_with_drawing_groups_one_by_one() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 300).astype(str)
    hits, w = rng.random(300), rng.random(300)
    found = GroupBootstrap(groups, 4000, seed=1).ratio(hits, w)
    labels = np.unique(groups)
    draws = []
    for _ in range(4000):
        taken = np.concatenate([np.flatnonzero(groups == label) for label in rng.choice(labels, len(labels))])
        draws.append(w[taken] @ hits[taken] / w[taken].sum())
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.ci95 is not None
    # Monte Carlo error of a 2.5 % quantile from 4,000 draws: about 0.04 standard deviations, twice
    assert found.ci95 == pytest.approx((low, high), abs=0.2 * float(np.std(draws)))
    assert found.value == pytest.approx(w @ hits / w.sum())


def test_general_metrics_use_the_same_groups() -> None:
    rng = np.random.default_rng(0)
    groups, values = rng.integers(0, 30, 200), rng.normal(size=200)
    bootstrap = GroupBootstrap(groups, 1500)
    by_sums = bootstrap.ratio(values, np.ones(200))
    by_call = bootstrap.resampled(lambda index: float(values[index].mean()))
    assert by_sums.ci95 is not None and by_call.ci95 is not None
    assert by_call.value == pytest.approx(by_sums.value)
    assert by_call.ci95 == pytest.approx(by_sums.ci95, abs=0.03)


def test_groups_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=50), 20)
    alone = GroupBootstrap(np.arange(1000)).ratio(values, np.ones(1000))
    grouped = GroupBootstrap(np.repeat(np.arange(50), 20)).ratio(values, np.ones(1000))
    assert alone.ci95 is not None and grouped.ci95 is not None
    # 20 equal copies carry the information of one: wider by sqrt(20) = 4.5
    assert 3.8 < (grouped.ci95[1] - grouped.ci95[0]) / (alone.ci95[1] - alone.ci95[0]) < 5.2


def test_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        share = rng.beta(3, 2, 60)
        hits = (rng.random((60, 4)) < share[:, None]).astype(float).ravel()
        found = GroupBootstrap(np.repeat(np.arange(60), 4), 400, seed=trial).ratio(
            hits, np.ones(240), between=(0.0, 1.0)
        )
        assert found.ci95 is not None
        covered += found.ci95[0] <= 0.6 <= found.ci95[1]
    assert covered >= 176  # binomial(200, .93): below 176 has probability 0.003


def test_seed_decides_and_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    groups, hits, w = rng.integers(0, 60, 100), rng.random(100), np.ones(100)
    first = GroupBootstrap(groups, 300, seed=7).ratio(hits, w)
    monkeypatch.setattr("assay.evaluation.intervals._CHUNK_VALUES", 64)
    again = GroupBootstrap(groups, 300, seed=7).ratio(hits, w)
    assert again.value == first.value and again.ci95 == pytest.approx(first.ci95, rel=1e-12)
    assert GroupBootstrap(groups, 300, seed=8).ratio(hits, w) != first


def test_all_right_gets_the_exact_binomial_interval() -> None:
    bootstrap = GroupBootstrap(np.arange(10))
    right = bootstrap.ratio(np.ones(10), np.ones(10), between=(0.0, 1.0))
    assert right.ci95 == pytest.approx((0.025 ** (1 / 10), 1.0))
    wrong = bootstrap.ratio(np.zeros(10), np.ones(10), between=(0.0, 1.0))
    assert wrong.ci95 == pytest.approx((0.0, 1 - 0.025 ** (1 / 10)))


def test_nothing_to_resample() -> None:
    one = GroupBootstrap(np.array(["g", "g"])).ratio(np.array([1.0, 0.0]), np.ones(2))
    assert one == Estimate(0.5, None, 2) and not one.excludes_zero()
    none = GroupBootstrap(np.array([], dtype=object)).ratio(np.zeros(0), np.zeros(0))
    assert math.isnan(none.value) and none.ci95 is None
    unweighted = GroupBootstrap(np.arange(5)).ratio(np.ones(5), np.zeros(5))
    assert math.isnan(unweighted.value) and unweighted.n == 0


def test_excludes_zero() -> None:
    assert Estimate(0.1, (0.01, 0.2), 5).excludes_zero()
    assert Estimate(-0.1, (-0.2, -0.01), 5).excludes_zero()
    assert not Estimate(0.1, (-0.01, 0.2), 5).excludes_zero()


def test_many_groups_are_put_together_without_changing_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=4000)
    apart = GroupBootstrap(np.arange(4000)).ratio(values, np.ones(4000)).ci95
    monkeypatch.setattr("assay.evaluation.intervals.MOST_DRAWN", 500)
    bootstrap = GroupBootstrap(np.arange(4000))
    together = bootstrap.ratio(values, np.ones(4000)).ci95
    assert bootstrap.n_groups == 4000 and apart is not None and together is not None
    # relative error of a width: 1/sqrt(2 * 500) from the clusters and about 0.03 from each set of resamples
    assert together[1] - together[0] == pytest.approx(apart[1] - apart[0], rel=0.15)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
def test_few_groups_cover_too(count: int) -> None:
    rng = np.random.default_rng(count)
    groups, covered, shown = np.repeat(np.arange(count), 5), 0, 0
    for trial in range(400):
        values = rng.normal(size=count)[groups] + 0.5 * rng.normal(size=len(groups))
        found = GroupBootstrap(groups, 300, seed=trial).ratio(values, np.ones(len(groups)))
        assert found.ci95 is not None
        covered += found.ci95[0] <= 0 <= found.ci95[1]
        shown += found.excludes_zero()
    assert covered >= 368 and shown <= 32  # binomial(400, .95): below 368 has probability 0.004


def test_what_all_groups_say_is_not_certain() -> None:
    ones, groups = np.ones(8), np.arange(8)
    bootstrap = GroupBootstrap(groups, 100)
    low, high = bootstrap.ratio(ones, ones, between=(-1.0, 1.0)).ci95 or (0.0, 0.0)
    # eight of eight: P above 0.025 ** (1 / 8) = 0.631, so the difference of hits above twice that less one
    assert (low, high) == pytest.approx((2 * 0.025 ** (1 / 8) - 1, 1.0))
    assert bootstrap.ratio(-ones, ones, between=(-1.0, 1.0)).ci95 == pytest.approx((-1.0, -low))
    assert not GroupBootstrap(np.arange(2), 100).ratio(ones[:2], ones[:2], between=(-1.0, 1.0)).excludes_zero()
    by_call = bootstrap.resampled(lambda index: float(ones[index].mean()), between=(0.0, 1.0))
    assert by_call.ci95 == pytest.approx((0.025 ** (1 / 8), 1.0))
    # no difference in any group is no claim, nor a proof that there is none
    reach = 1 - 0.025 ** (1 / 8)
    assert bootstrap.ratio(0 * ones, ones, between=(-1.0, 1.0)).ci95 == pytest.approx((-reach, reach))
    assert bootstrap.ratio(ones / 4, ones, between=(0.0, 1.0)).ci95 == pytest.approx(
        (0.25 * (1 - reach), 0.25 + 0.75 * reach)
    )
