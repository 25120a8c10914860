from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import ConfigError
from assay.scorers.layout import Layout
from assay.training.plan import Plan, Sizes, plan_batches


def sizes_of(edges: list[int], rows: list[list[int]] | None = None) -> Sizes:
    """Records with two rows of ten tokens each, or the rows given."""
    rows = rows or [[10, 10]] * len(edges)
    lengths = np.array([length for row in rows for length in row], np.int64)
    count = np.array(edges, np.int64)
    return Sizes(lengths, np.cumsum([0, *map(len, rows)]), count, count.astype(float))


@st.composite
def any_sizes(draw: st.DrawFn) -> Sizes:
    count = draw(st.integers(1, 60))
    edges = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    edges[draw(st.integers(0, count - 1))] += 1
    row = st.lists(st.integers(1, 400), min_size=1, max_size=6)
    return sizes_of(edges, draw(st.lists(row, min_size=count, max_size=count)))


layouts = st.builds(Layout, packed=st.booleans(), overhead_tokens=st.integers(0, 300))


def visited(plan: Plan, start: int, end: int) -> list[int]:
    return [int(r) for step in plan.steps[start:end] for rank in step for micro in rank for r in micro]


plans = settings(max_examples=60, deadline=None)


@plans
@given(any_sizes(), st.integers(1, 3), st.integers(1, 20), st.integers(1, 3000), st.integers(1, 4), layouts)
def test_every_judged_record_is_visited_once_an_epoch(
    sizes: Sizes, epochs: int, pairs: int, budget: int, world: int, layout: Layout
) -> None:
    plan = plan_batches(
        sizes,
        epochs=epochs,
        pairs_per_step=pairs,
        token_budget=budget,
        seed=5,
        world_size=world,
        layout=layout,
    )
    judged = np.flatnonzero(sizes.items > 0).tolist()
    starts = [0, *plan.epoch_ends[:-1]]
    for start, end in zip(starts, plan.epoch_ends, strict=True):
        assert sorted(visited(plan, start, end)) == judged
    for step, weight in zip(plan.steps, plan.weights, strict=True):
        inside = [r for rank in step for micro in rank for r in micro]
        assert weight == sizes.weight[inside].sum()
        assert len(step) == world
        for rank in step:
            for micro in rank:
                lengths = sizes.rows(micro)
                padded = layout.tokens(lengths, layout.blocks(lengths, budget))
                assert len(micro) == 1 or padded <= budget


@plans
@given(any_sizes(), st.integers(1, 20))
def test_a_step_takes_enough_judgements_and_no_more(sizes: Sizes, pairs: int) -> None:
    plan = plan_batches(sizes, epochs=1, pairs_per_step=pairs, token_budget=10**6, seed=1)
    counts = [int(sizes.items[np.concatenate(step[0])].sum()) for step in plan.steps]
    largest = int(sizes.items.max())
    assert all(count >= pairs for count in counts[:-1])
    assert all(count < pairs + largest for count in counts[:-1])
    # the end of an epoch: at least half a step, unless it is all there is; a smaller rest joined the step before
    assert len(counts) == 1 or 2 * counts[-1] >= pairs
    assert counts[-1] < pairs + largest + pairs / 2


def test_a_small_rest_joins_the_step_before_and_a_large_one_does_not() -> None:
    rest_of_3 = plan_batches(sizes_of([1] * 19), epochs=1, pairs_per_step=8, token_budget=10**6, seed=0)
    assert [len(np.concatenate(step[0])) for step in rest_of_3.steps] == [8, 11]
    rest_of_4 = plan_batches(sizes_of([1] * 20), epochs=1, pairs_per_step=8, token_budget=10**6, seed=0)
    assert [len(np.concatenate(step[0])) for step in rest_of_4.steps] == [8, 8, 4]


def test_orders_differ_by_epoch_and_seed_and_repeat_for_a_seed() -> None:
    sizes = sizes_of([1] * 40)

    def order(seed: int, epoch: int) -> list[int]:
        plan = plan_batches(sizes, epochs=2, pairs_per_step=1, token_budget=10**6, seed=seed)
        return visited(plan, 40 * epoch, 40 * epoch + 40)

    assert order(0, 0) == order(0, 0)
    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_an_epoch_more_leaves_the_first_ones_as_they_were() -> None:
    sizes = sizes_of([1, 2, 3] * 10)
    short, long = (plan_batches(sizes, epochs=e, pairs_per_step=4, token_budget=60, seed=2) for e in (1, 2))
    assert visited(short, 0, len(short)) == visited(long, 0, len(short))


@plans
@given(any_sizes(), st.integers(1, 30), st.integers(2, 5))
def test_costs_of_ranks_differ_by_no_more_than_one_record(sizes: Sizes, pairs: int, world: int) -> None:
    plan = plan_batches(sizes, epochs=1, pairs_per_step=pairs, token_budget=500, seed=0, world_size=world)
    alone = plan_batches(sizes, epochs=1, pairs_per_step=pairs, token_budget=500, seed=0)
    for step, whole in zip(plan.steps, alone.steps, strict=True):
        shares = [np.concatenate([*rank, np.zeros(0, np.int64)]).astype(int) for rank in step]
        together = np.concatenate(shares)
        assert len(together) == len(set(together))
        assert sorted(together) == sorted(np.concatenate(whole[0]))
        loads = [sizes.cost[share].sum() for share in shares]
        assert max(loads) - min(loads) <= sizes.cost[together].max()


def test_micro_batches_are_as_few_as_the_budget_allows_and_of_similar_tokens() -> None:
    sizes = sizes_of([1] * 6, [[10, 10], [200, 180], [12, 12], [190, 190], [11, 11], [210, 150]])
    together = plan_batches(sizes, epochs=1, pairs_per_step=6, token_budget=10**6, seed=0)
    assert len(together.steps[0][0]) == 1
    halves = plan_batches(sizes, epochs=1, pairs_per_step=6, token_budget=780, seed=0).steps[0][0]
    assert [sizes.longest[micro].tolist() for micro in halves] == [[210, 200], [190, 12, 11, 10]]


@pytest.mark.parametrize(
    "layout", [Layout(overhead_tokens=64), Layout(overhead_tokens=2048), Layout(packed=True)], ids=str
)
def test_micro_batches_are_about_as_few_as_by_filling_one_after_the_other(layout: Layout) -> None:
    """Padding does not always grow with a piece, so neither of the two is always the lower one."""
    draw, budget, found, filled = np.random.default_rng(0), 8192, 0, 0
    for _ in range(5):
        sizes = sizes_of([1] * 100, draw.integers(200, 2500, (100, 2)).tolist())
        plan = plan_batches(sizes, epochs=1, pairs_per_step=10**6, token_budget=budget, seed=0, layout=layout)
        found += len(plan.steps[0][0])
        assert plan.lightest == sizes.tokens.argmin()
        pieces: list[list[int]] = []
        for record in np.argsort(-sizes.longest, kind="stable").tolist():
            lengths = sizes.rows(np.array([*pieces[-1], record])) if pieces else np.array([budget + 1])
            if layout.tokens(lengths, layout.blocks(lengths, budget)) <= budget:
                pieces[-1].append(record)
            else:
                pieces.append([record])
        filled += len(pieces)
    assert found <= 1.01 * filled


def test_a_record_over_the_budget_is_a_micro_batch_of_its_own() -> None:
    sizes = sizes_of([1, 1, 1], [[500, 500], [10, 10], [10, 10]])
    plan = plan_batches(sizes, epochs=1, pairs_per_step=3, token_budget=600, seed=0)
    assert next(micro.tolist() for micro in plan.steps[0][0]) == [0]


def test_epoch_counts_steps_of_unequal_epochs() -> None:
    plan = Plan([[[]]] * 10, np.zeros(10), np.array([4, 10]))
    assert [plan.epoch(step) for step in (0, 1, 4, 7, 10)] == [0.0, 0.25, 1.0, 1.5, 2.0]


def test_evaluations_are_even_and_always_at_the_end_of_an_epoch() -> None:
    plan = Plan([[[]]] * 43, np.zeros(43), np.array([21, 43]))
    assert plan.evaluation_steps(1) == [21, 43]
    assert plan.evaluation_steps(2) == [11, 21, 32, 43]
    assert plan.evaluation_steps(100) == list(range(1, 44))
    assert plan.first(30).evaluation_steps(2) == [11, 21, 30]


def test_digest_tells_plans_apart() -> None:
    sizes = sizes_of([1] * 12)

    def digest(**changes: int) -> str:
        options: dict[str, Any] = {"epochs": 1, "pairs_per_step": 4, "token_budget": 1000, "seed": 0} | changes
        return plan_batches(sizes, **options).digest()

    same = digest()
    assert same == digest()
    others = [digest(**{k: v}) for k, v in (("epochs", 2), ("pairs_per_step", 3), ("token_budget", 40), ("seed", 1))]
    assert len({same, digest(world_size=2), *others}) == 6


def test_weights_of_members_are_summed_apart() -> None:
    plain = sizes_of([1, 1])
    sizes = Sizes(plain.lengths, plain.starts, plain.items, np.array([[1.0, 0.0], [2.0, 5.0]]))
    plan = plan_batches(sizes, epochs=1, pairs_per_step=2, token_budget=100, seed=0)
    assert plan.weights.tolist() == [[3.0, 5.0]]


@pytest.mark.parametrize("name", ["epochs", "pairs_per_step", "token_budget"])
def test_numbers_below_one_are_refused(name: str) -> None:
    options: dict[str, Any] = {"epochs": 1, "pairs_per_step": 1, "token_budget": 1, "seed": 0} | {name: 0}
    with pytest.raises(ConfigError, match=name):
        plan_batches(sizes_of([1]), **options)


def test_data_without_a_judgement_are_refused() -> None:
    with pytest.raises(ConfigError, match="no judgement to train on"):
        plan_batches(sizes_of([0, 0]), epochs=1, pairs_per_step=1, token_budget=1, seed=0)
