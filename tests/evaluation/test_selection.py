"""Which weak labels to trust: thresholds, and bounds on the share of wrong ones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit

from assay.errors import DataError
from assay.evaluation.selection import confident, control_error_of_labels, control_risk


def test_kept_sets_are_nested() -> None:
    p = np.random.default_rng(0).random(200)
    kept = [confident(p, threshold) for threshold in (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)]
    assert kept[0].all() and kept[1].all() and kept[2].all()
    for wide, narrow in pairwise(kept[2:]):
        assert (narrow <= wide).all() and narrow.sum() < wide.sum()
    assert (confident(1 - p, 0.7) == confident(p, 0.7)).all()


def test_risk_stays_below_the_bound_whatever_the_probabilities_are_worth() -> None:
    wrong, kept = [], []
    for seed in range(200):
        random = np.random.default_rng(seed)
        z = random.normal(0, 1.5, 800)
        truth = np.where(random.random(800) < expit(z), 1, -1)
        p = expit(3 * z)  # over-confident
        found = control_risk(p[:400], truth[:400], 0.1)
        label = confident(p[400:], found.threshold)
        wrong.append((label & ((p[400:] > 0.5) != (truth[400:] > 0))).mean())
        kept.append(label.mean())
    assert np.mean(wrong) < 0.1 + 2 * np.std(wrong) / np.sqrt(len(wrong))
    assert np.mean(wrong) > 0.08 and np.mean(kept) > 0.4  # and not by labelling nothing


def test_risk_by_hand_and_its_limits() -> None:
    p, truth = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 1, -1, 1])
    # n = 4: the empty set costs 1/5; one wrong of four gives 4/5 * 1/4 + 1/5 = 0.4
    assert control_risk(p, truth, 0.4).threshold == 0.6
    strict = control_risk(p, truth, 0.3)
    assert strict.threshold == 0.8 and strict.kept == 0.5 and strict.wrong == 0
    assert control_risk(p, truth, 0.1).threshold == np.inf  # four pairs cannot promise that
    # four pairs of one prompt are one witness
    assert control_risk(p, truth, 0.4, np.zeros(4)).threshold == np.inf
    with pytest.raises(DataError, match="error bound is a share"):
        control_risk(p, truth, 1.0)
    with pytest.raises(DataError, match="labelled pairs"):
        control_risk(p, np.zeros(4), 0.1)


def drawn(groups: int, seed: int, per_group: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw confidences that say too much, what is true, and groups whose errors go together."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), per_group)
    margin = random.normal(0.0, 1.5, len(group)) + random.normal(0.0, 0.5, groups)[group]
    truth = np.where(random.random(groups)[group] < expit(0.7 * margin), 1, -1)
    return expit(margin), truth, group


@pytest.mark.parametrize("per_group", [1, 4])
def test_given_labels_are_wrong_as_seldom_as_promised(per_group: int) -> None:
    p, truth, _ = drawn(100_000, seed=1)
    confidence, wrong = np.maximum(p, 1 - p), (p > 0.5) != (truth > 0)
    broken, shares = 0, []
    for seed in range(100):
        found = control_error_of_labels(*drawn(600, seed + 2, per_group)[:2], 0.2, np.repeat(np.arange(600), per_group))
        kept = confidence >= found.threshold
        shares.append(kept.mean())
        broken += bool(kept.any() and wrong[kept].mean() > 0.2)
    assert broken <= 16  # 10 expected at most; 2 deviations
    assert np.mean(shares) > 0.15  # of 0.45 that a judge who knew all could give


def test_bound_on_given_labels_is_not_that_on_all_pairs() -> None:
    p, truth, group = drawn(2000, seed=0)
    of_all, of_labelled = control_risk(p, truth, 0.2, group), control_error_of_labels(p, truth, 0.2, group)
    assert (of_all.of, of_labelled.of, of_labelled.certainty) == ("all", "labelled", 0.9)
    assert of_all.kept > of_labelled.kept > 0
    assert of_labelled.wrong / of_labelled.kept < 0.2 < of_all.wrong / of_all.kept


def test_too_few_labels_promise_nothing_and_flawless_ones_all() -> None:
    sure, right = np.full(91, 0.9), np.ones(91)
    assert control_error_of_labels(sure, right, 0.1).threshold == np.inf  # 4 ln(10) / 0.1 = 92.1
    assert control_error_of_labels(np.full(93, 0.9), np.ones(93), 0.1).threshold == 0.9
    assert control_error_of_labels(np.full(93, 0.9), -np.ones(93), 0.1).threshold == np.inf
    with pytest.raises(DataError, match="certainty"):
        control_error_of_labels(sure, right, 0.1, certainty=1.0)


def unequal(groups: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw prompts of one pair that are mostly right, and, one of five, of eight pairs that are mostly wrong."""
    random = np.random.default_rng(seed)
    size = np.where(random.random(groups) < 0.2, 8, 1)
    group = np.repeat(np.arange(groups), size)
    right = random.random(len(group)) < np.where(size[group] == 1, 0.97, 0.7)
    return random.uniform(0.6, 0.99, len(group)), np.where(right, 1, -1), group


def test_bounds_are_of_pairs_where_prompts_have_different_numbers_of_them() -> None:
    p, truth, _ = unequal(50_000, seed=0)
    wrong = truth < 0
    shares, broken = [], 0
    for seed in range(60):
        drawn_pairs = unequal(400, seed + 1)
        threshold = control_risk(drawn_pairs[0], drawn_pairs[1], 0.15, drawn_pairs[2]).threshold
        shares.append((wrong & (p >= threshold)).mean())
        threshold = control_error_of_labels(drawn_pairs[0], drawn_pairs[1], 0.15, drawn_pairs[2]).threshold
        broken += bool((p >= threshold).any() and wrong[p >= threshold].mean() > 0.15)
    # 20.6 % of all labels are wrong, and 8.4 % of a prompt's on the mean
    assert np.mean(shares) <= 0.15 + 0.005 and np.mean(shares) > 0.1
    assert broken <= 12


def test_labels_of_one_prompt_count_once() -> None:
    p, truth, _ = drawn(150, seed=0)
    alone = control_error_of_labels(p, truth, 0.3)
    copies = control_error_of_labels(np.repeat(p, 10), np.repeat(truth, 10), 0.3, np.repeat(np.arange(150), 10))
    assert copies.n == alone.n == 150
    unaware = control_error_of_labels(np.repeat(p, 10), np.repeat(truth, 10), 0.3)
    assert unaware.kept > copies.kept
