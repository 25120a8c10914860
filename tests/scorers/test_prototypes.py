"""Proto-RM's head: what it is without prototypes, that no label reaches a score, and how its bank grows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.objectives import pairwise_loss
from assay.objectives.prototypes import diversity_loss, effective_number, fitted_log_kappa
from assay.scorers.head_kinds import make_head
from assay.scorers.heads import LinearHead, layer_normed
from assay.scorers.prototypes import PrototypeHead

WIDTH = 8


def states(count: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def filled(per_class: int = 4, members: int = 1, seed: int = 1, **options: Any) -> PrototypeHead:
    """Make a head with prototypes of both classes, and weights that are not 0."""
    head = PrototypeHead(WIDTH, members, **{"drop": 0.0, "cap": 16, "per_class": 4, **options})
    for member in range(members):
        for row, point in enumerate(head.normed(states(2 * per_class, seed + member))):
            head.add(member, point, 1 if row < per_class else -1, [])
    with torch.no_grad():
        head.weight.copy_(states(members, seed + 100))
    return head


def scores_and_gradient(head: torch.nn.Module, weight: torch.nn.Parameter, h: Tensor) -> tuple[Tensor, Tensor]:
    scores = head(h)[:, 0]
    pairwise_loss(scores[::2] - scores[1::2]).backward()
    assert weight.grad is not None
    return scores.detach(), weight.grad


def test_without_omega_it_is_the_plain_head_bit_for_bit() -> None:
    head, plain = filled(omega=0.0), LinearHead(WIDTH, normalise=True)
    with torch.no_grad():
        plain.weight.copy_(head.weight)
    h = states(6, 7)
    one, other = scores_and_gradient(head, head.weight, h), scores_and_gradient(plain, plain.weight, h)
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_an_empty_bank_is_the_plain_head() -> None:
    head, plain = PrototypeHead(WIDTH), LinearHead(WIDTH, normalise=True)
    with torch.no_grad():
        head.weight.fill_(0.3)
        plain.weight.fill_(0.3)
    assert torch.equal(head(states(3)), plain(states(3)))
    assert head.penalty() is None


def test_omega_one_with_one_prototype_is_constant() -> None:
    head = PrototypeHead(WIDTH, omega=1.0, drop=0.0)
    head.add(0, states(1)[0], 1, [])
    with torch.no_grad():
        head.weight.copy_(states(1, 5))
    found = head(states(9, 3))
    assert torch.allclose(found, found[:1].expand_as(found), atol=1e-6)


def test_limits_of_kappa() -> None:
    head, h = filled(omega=1.0), states(5, 9)
    points, v = head.points[0, :8], head.weight[0]
    with torch.no_grad():
        head.log_kappa.fill_(-50.0)
        assert torch.allclose(head(h)[:, 0], (points.mean(0) @ v).expand(5), atol=1e-5)
        head.log_kappa.fill_(12.0)
        nearest = torch.cdist(head.normed(h), points).argmin(dim=1)
        assert torch.allclose(head(h)[:, 0], points[nearest] @ v, atol=1e-4)


def test_it_is_the_mixture_of_vectors() -> None:
    head, h = filled(omega=0.3), states(4, 11)
    q = head.weights(h)[:, 0, :8]
    mixed = 0.7 * head.normed(h) + 0.3 * q @ head.points[0, :8]
    assert torch.allclose(head(h)[:, 0], mixed @ head.weight[0], atol=1e-5)


def test_scores_do_not_depend_on_slot_or_partner() -> None:
    head, h = filled().eval(), states(4, 2)
    together = head(h)[:, 0]
    assert torch.allclose(together, head(h.flip(0))[:, 0].flip(0), atol=1e-6)
    assert torch.allclose(together, torch.cat([head(row[None])[:, 0] for row in h]), atol=1e-6)


def test_classes_alone_change_no_score() -> None:
    head, h = filled().train(), states(4, 2)
    owners = torch.arange(4)
    scores = [head(h, owners, torch.tensor(classes)) for classes in ([1, 1, 1, 1], [-1, 1, -1, 0])]
    assert torch.equal(*scores)
    head.classes.neg_()
    assert torch.equal(head(h), scores[0])


def test_the_class_term_turns_with_the_classes() -> None:
    head, h = filled(omega=0.0, class_weight=1.0), states(4, 2)
    with torch.no_grad():
        head.weight.zero_()
    before = head(h)
    head.classes.neg_()
    assert before.abs().min() > 0 and torch.allclose(head(h), -before)


def test_own_prototypes_are_left_out_in_training_only() -> None:
    head, h = PrototypeHead(WIDTH, omega=1.0, drop=0.0, growth="off"), states(3, 4)
    for row, point in enumerate(head.normed(h)):
        head.add(0, point, 1 if row else -1, [row])
    with torch.no_grad():
        head.weight.copy_(states(1, 8))
        head.log_kappa.fill_(8.0)
    points, v = head.normed(h), head.weight[0]
    assert torch.allclose(head.eval()(h, torch.arange(3))[:, 0], points @ v, atol=1e-3)
    seen = head.train()(h, torch.arange(3), torch.zeros(3))[:, 0]
    apart = torch.cdist(points, points).fill_diagonal_(math.inf).argmin(dim=1)
    assert torch.allclose(seen, points[apart] @ v, atol=1e-3)
    alone = head(h[:1], torch.tensor([0]), torch.zeros(1))
    head.active[0, 1:] = False
    assert not torch.equal(head(h[:1], torch.tensor([0]), torch.zeros(1)), alone)
    # with its only prototype out, a response is what it is by itself
    assert torch.allclose(head(h[:1], torch.tensor([0]), torch.zeros(1))[:, 0], points[:1] @ v, atol=1e-5)


@pytest.mark.parametrize(("released", "leaks"), [(False, False), (True, True)])
def test_leak_with_identical_embeddings(released: bool, leaks: bool) -> None:
    head = filled(omega=1.0, released=released, growth="off").train()
    head.weight.requires_grad_(False)
    h = states(32, 21).repeat_interleave(2, dim=0)
    owners, classes = torch.arange(32).repeat_interleave(2), torch.tensor([1, -1]).repeat(32)
    optimiser = torch.optim.Adam([p for p in head.parameters() if p.requires_grad], lr=0.1)
    for _ in range(200):
        scores = head(h, owners, classes)[:, 0]
        loss = pairwise_loss(scores[::2] - scores[1::2])
        optimiser.zero_grad()
        if loss.requires_grad:
            loss.backward()
            optimiser.step()
    if leaks:
        assert loss.item() < 1e-2
    else:
        assert loss.item() == pytest.approx(math.log(2), abs=1e-7)


def test_leak_with_random_labels() -> None:
    """What was learned from labels without a meaning predicts no others."""
    head = filled(per_class=4, growth="off").train()
    generator = torch.Generator().manual_seed(3)
    h = torch.randn(4000, WIDTH, generator=generator)
    owners, classes = torch.arange(2000).repeat_interleave(2), torch.tensor([1, -1]).repeat(2000)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(150):
        scores = head(h[:2000], owners[:2000], classes[:2000])[:, 0]
        loss = pairwise_loss(scores[::2] - scores[1::2])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scores = head.eval()(h[2000:])[:, 0]
    assert loss.item() > 0.6
    assert pairwise_loss(scores[::2] - scores[1::2]).item() >= math.log(2) - 0.02


def grown(head: PrototypeHead, h: Tensor, classes: list[int], owners: list[int] | None = None) -> int:
    head.train()(h, torch.tensor(owners or list(range(len(h)))), torch.tensor(classes))
    head.end_step()
    return int(head.counts[0])


def test_far_responses_become_prototypes_once() -> None:
    head = filled(per_class=2, cap=8)
    head.threshold.fill_(0.5)
    far = states(1, 33)
    assert grown(head, far, [1], [7]) == 5
    assert torch.equal(head.points[0, 4], head.normed(far)[0])
    assert head.classes[0, 4] == 1 and head.owners[0, 4].tolist() == [7, -1]
    assert grown(head, far, [1]) == 5
    assert grown(head, torch.cat([states(1, 34), states(1, 34)]), [-1, -1]) == 6
    assert grown(head, states(1, 35), [0]) == 6, "a response of no class joins none"
    assert grown(head, states(20, 36), [1] * 20) == 8, "the cap holds"
    with pytest.raises(IndexError, match="8 prototypes"):
        head.add(0, far[0], 1, [])


def test_at_exactly_the_threshold_nothing_is_made() -> None:
    head = PrototypeHead(2, cap=4, drop=0.0)
    head.add(0, torch.tensor([1.0, -1.0]), 1, [])
    far = torch.tensor([[-3.0, 3.0]])  # (-1, 1) once normalised, at (4 + 4) / 2 = 4
    distance = float(head.nearest(far).detach())
    head.threshold.fill_(distance)
    assert distance == pytest.approx(4.0, abs=1e-4) and grown(head, far, [1]) == 1
    head.threshold.fill_(distance - 1e-3)
    assert grown(head, far, [1]) == 2


def test_nothing_grows_outside_training_or_without_a_threshold() -> None:
    head = filled(per_class=2)
    head.eval()(states(3, 40), torch.arange(3), torch.ones(3))
    head.end_step()
    assert head.counts[0] == 4
    assert grown(head, states(3, 40), [1, 1, 1]) == 4, "the threshold is infinite until the bank is started"


def test_the_rule_of_imp() -> None:
    head = filled(per_class=1, growth="imp", variance=0.01, cap=8)
    width = torch.tensor(float(WIDTH))
    # one prototype of each class: V is 0
    assert head.bounds()[0].tolist() == pytest.approx([-2 * 0.01 * math.log(0.1) / width.item()] * 2)
    near = head.points[0, 1:2].detach().clone()
    assert grown(head, near, [-1]) == 2
    assert grown(head, near, [1]) == 3, "near to the other class only"


@pytest.mark.parametrize("batches", [1, 3])
def test_growth_is_the_same_in_any_micro_batches(batches: int) -> None:
    head = filled(per_class=2, cap=10)
    head.threshold.fill_(0.8)
    h, owners, classes = states(12, 50), torch.randperm(12, generator=torch.Generator().manual_seed(1)), torch.ones(12)
    for part in torch.arange(12).split(12 // batches):
        head.train()(h[part], owners[part], classes[part])
    head.end_step()
    assert int(head.counts[0]) == 10
    assert torch.equal(head.owners[0, 4:10, 0], torch.tensor(sorted(head.owners[0, 4:10, 0].tolist())))


def test_inactive_slots_have_no_weight_and_no_gradient() -> None:
    head = filled()
    h = states(4, 60)
    assert (head.weights(h)[..., 8:] == 0).all()
    pairwise_loss(head(h)[::2, 0] - head(h)[1::2, 0]).backward()
    assert head.points.grad is not None
    assert (head.points.grad[0, 8:] == 0).all() and (head.points.grad[0, :8] != 0).any()


def test_dropping_is_seeded_per_class_and_in_training_only() -> None:
    head, h = filled(per_class=5, cap=10, drop=0.2, omega=1.0), states(6, 70)
    first = head._dropped(10)
    assert first[0, :5].sum() == 1 and first[0, 5:].sum() == 1
    assert torch.equal(first, head._dropped(10))
    assert torch.equal(head.eval()(h), filled(per_class=5, cap=10, drop=0.0, omega=1.0).eval()(h))
    steps = []
    for _ in range(8):
        head.end_step()
        steps.append(head._dropped(10))
    assert not all(torch.equal(first, other) for other in steps)


def test_kappa_is_fitted_to_an_effective_number() -> None:
    head = filled()
    distances = torch.cdist(head.normed(states(40, 80)), head.points[0, :8]).square() / WIDTH
    usable = torch.ones_like(distances, dtype=torch.bool)
    for goal in (2.0, 4.0, 7.0):
        kappa = math.exp(fitted_log_kappa(distances, usable, goal))
        found = effective_number((-kappa * distances).softmax(-1)).median().item()
        assert found == pytest.approx(goal, abs=1e-3)


@pytest.mark.parametrize("log_kappa", [-20.0, 20.0])
def test_the_effective_number_is_kept_in_its_band(log_kappa: float) -> None:
    head = filled(growth="off")
    with torch.no_grad():
        head.log_kappa.fill_(log_kappa)
    h = states(30, 90)
    grown(head, h, [1] * 30)
    assert 3 - 1e-3 <= effective_number(head.weights(h)).median().item() <= 4 + 1e-3


def test_members_share_nothing() -> None:
    both, h = filled(members=2), states(4, 95)
    for member in range(2):
        alone = filled(seed=1 + member)
        with torch.no_grad():
            alone.weight.copy_(both.weight[member : member + 1])
        assert torch.allclose(both(h)[:, member], alone(h)[:, 0], atol=1e-6)
        assert both.penalty() is not None and alone.penalty() is not None
        assert torch.allclose(both.penalty()[member], alone.penalty()[0])  # type: ignore[index]


def test_omega_fades_as_released() -> None:
    head = filled(omega_schedule="fading")
    for steps, expected in ((0, 0.5), (866, 0.5), (2000, 0.2019), (5000, 0.0183)):
        head.steps.fill_(steps)
        assert head.omega_now().item() == pytest.approx(expected, abs=2e-3)


def test_a_learned_omega_begins_as_the_constant_one_and_is_trained() -> None:
    constant, h = filled(omega=0.3), states(6, 99)
    head = filled(omega=0.3, omega_schedule="learned")
    assert torch.allclose(head(h), constant(h), atol=1e-6)
    assert head.omega_logit is not None and head.omega_logit.shape == (1,)
    # what the mixture alone says is wrong: a step down the gradient trusts it less
    goal = (head.normed(h) @ head.weight.T).detach()
    (head(h) - goal).square().mean().backward()
    slope = head.omega_logit.grad
    assert slope is not None
    with torch.no_grad():
        head.omega_logit.sub_(0.01 * slope.sign())
    assert head.omega_now().item() < 0.3
    released = filled(omega_schedule="learned", released=True)
    assert released.omega_logit is None and released.fading
    with pytest.raises(ValueError, match="between 0 and 1"):
        filled(omega=1.0, omega_schedule="learned")


def test_released_votes_by_the_nearest() -> None:
    head, h = filled(per_class=4, released=True, omega=1.0).eval(), states(5, 97)
    distances = torch.cdist(head.normed(h), head.points[0, :8]).square()
    # eight prototypes, four of each class, all vote: a tie goes to the chosen ones
    q = (-distances[:, :4]).softmax(-1)
    assert torch.allclose(head(h)[:, 0], q @ head.points[0, :4] @ head.weight[0], atol=1e-4)


def test_layer_norm_leaves_what_is_no_state() -> None:
    h = states(3, 98)
    normed = layer_normed(h, plain=1)
    assert torch.equal(normed[:, -1], h[:, -1])
    assert torch.allclose(normed[:, :-1].mean(-1), torch.zeros(3), atol=1e-6)
    assert torch.allclose(normed[:, :-1].var(-1, unbiased=False), torch.ones(3), atol=1e-3)


def test_unknown_heads_and_options() -> None:
    with pytest.raises(ValueError, match="expected one of linear"):
        make_head("prototype", 4)
    with pytest.raises(TypeError, match="omga"):
        make_head("prototypes", 4, options={"omga": 1.0})


def test_what_is_remembered_of_distances_changes_no_penalty() -> None:
    """Points wander until two are near, some are added on the way: always the loss that looks at all distances."""
    generator = torch.Generator().manual_seed(0)
    head = PrototypeHead(6, members=2, cap=12, tau=0.5)
    for member in range(2):
        for k in range(8):
            head.add(member, 2 * torch.randn(6, generator=generator), 1 if k % 2 else -1, [k])
    looked = near = 0
    for step in range(400):
        with torch.no_grad():
            head.points.add_(0.02 * torch.randn(head.points.shape, generator=generator))
            head.points[:, 0] += 0.01 * (head.points[:, 2] - head.points[:, 0])  # of one class
        if step == 100:
            head.add(1, head.points[1, 3] + 0.1, 1, [9])  # near another one at once
        before = head._apart
        found = head.penalty()
        used = int(head.counts.max())
        expected = diversity_loss(head.points[:, :used], head.classes[:, :used], 0.5)
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        looked += head._apart is not before
        near += bool((expected > 0).any())
    assert near > 50 and looked < 100
