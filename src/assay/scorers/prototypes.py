"""Proto-RM: a response is scored by a blend of its own vector and of the prototypes that it is near (Zhang 2024)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from assay.objectives.prototypes import (
    band,
    class_term,
    diversity_loss,
    effective_number,
    fitted_log_kappa,
    imp_threshold,
    least_distance,
    mixture_weights,
    spread_of,
    squared_distances,
)
from assay.scorers.heads import Head, layer_normed

Growth = Literal["quantile", "imp", "off"]
OmegaSchedule = Literal["constant", "learned", "fading"]

#: Nearest prototypes that vote on the class of a response in the released code.
RELEASED_VOTERS = 19
#: Rate at which the released code lets the prototypes fade out, per step.
RELEASED_DECAY = 8e-4
#: How many times faster than other weights a learned omega moves; its logit starts at 0 and has far to go.
OMEGA_RATE = 10.0


class _Seen(NamedTuple):
    """Responses of a training step: vectors, distances, prototypes that others built, prompts, and classes."""

    h: Tensor
    distances: Tensor
    others: Tensor
    owners: Tensor
    classes: Tensor


class _Apart(NamedTuple):
    """Prototypes when all distances were looked at last, their classes, and how far beyond tau the nearest two were."""

    points: Tensor
    classes: Tensor
    slack: float


class PrototypeHead(Head):
    r"""Score responses by prototypes of chosen and of rejected ones, which grow with what is unlike all of them.

    .. math:: D_k = \lVert h - p_k \rVert^2 / d, \quad q = \mathrm{softmax}(-\kappa D), \quad
              s = v \cdot \Big[(1 - \omega) h + \omega \sum_k q_k p_k\Big] + c\,T(h)

    with h the vector brought to mean 0 and variance 1, T the `class_term`, and kappa learned through its logarithm.
    All prototypes serve all responses, so no label of a response reaches its score. In training a response is scored
    without the prototypes that its prompt helped to build. Until `start` has filled the bank of a member, that member
    is linear in h.

    After each step (`end_step`) a response that is further than a threshold from every prototype becomes one itself,
    while there is room; and kappa is brought back where the median effective number of prototypes (`effective_number`)
    leaves the band from 3 to half of their number.

    Deviations from the paper are those of the table in docs/few_labels.md. ``released=True`` undoes the one that
    matters: in training a chosen response is mixed from chosen prototypes only and a rejected one from rejected ones,
    so that the label leaks into the score; elsewhere the 19 nearest prototypes vote which class that is; distances are
    not divided by d, kappa stays 1, omega fades, and IMP compares a distance with its bound for squared distances.

    Parameters
    ----------
    width, members
        d and M.
    cap
        Prototypes that there is room for, of both classes together.
    per_class
        Prototypes of each class at the start, at most.
    builders
        N, how many responses one prototype is the mean of at the start.
    omega
        Share of the prototypes in what is scored, in [0, 1].
    omega_schedule
        ``"constant"``; ``"learned"``: begins there, in (0, 1), and is trained through its logit (ours); ``"fading"``:
        ``min(omega, exp(-8e-4 * step))``, as released.
    class_weight
        c, of the class term.
    growth
        ``"quantile"``: the threshold is a quantile of the distances of probe responses from their nearest prototype
        (`start` sets it); ``"imp"``: that of IMP, to the nearest prototype of the own class; ``"off"``: none is added.
    alpha, variance
        Of the rule of IMP; the variance is constant.
    drop
        Share of the prototypes of each class that a training step leaves out.
    tau
        See `diversity_loss`.
    trained
        Whether the prototypes are trained; with ``start="random"`` and False it is the control of random landmarks.
    start
        ``"means"`` of responses, or ``"random"`` vectors of the same mean and deviation.
    released
        As told above.
    seed
        Of what is dropped, and of the responses that prototypes are built from.
    plain
        See `layer_normed`.
    """

    reads = frozenset({"owners", "classes"})
    undecayed: ClassVar[frozenset[str]] = frozenset({"points", "log_kappa", "omega_logit"})

    def __init__(
        self,
        width: int,
        members: int = 1,
        *,
        cap: int = 286,
        per_class: int = 18,
        builders: int = 2,
        omega: float = 0.5,
        omega_schedule: OmegaSchedule = "constant",
        class_weight: float = 0.0,
        growth: Growth = "quantile",
        alpha: float = 0.1,
        variance: float = 5.0,
        drop: float = 0.1,
        tau: float = 0.5,
        trained: bool = True,
        start: Literal["means", "random"] = "means",
        released: bool = False,
        seed: int = 0,
        plain: int = 0,
    ) -> None:
        super().__init__()
        self.cap, self.per_class, self.builders, self.seed = cap, per_class, builders, seed
        self.omega, self.fading = omega, omega_schedule == "fading" or released
        self.class_weight, self.growth, self.alpha, self.variance = class_weight, growth, alpha, variance
        self.drop, self.tau, self.start, self.released = drop, tau, start, released
        self.scaled, self.plain = not released, plain
        self.weight = nn.Parameter(torch.zeros(members, width))
        self.points = nn.Parameter(torch.zeros(members, cap, width), requires_grad=trained)
        self.log_kappa = nn.Parameter(torch.zeros(members), requires_grad=not released)
        self.omega_logit: nn.Parameter | None = None
        if omega_schedule == "learned" and not released:
            if not 0 < omega < 1:
                raise ValueError(f"omega is {omega}; expected a number between 0 and 1 where it is learned")
            self.omega_logit = nn.Parameter(torch.full((members,), math.log(omega / (1 - omega)) / OMEGA_RATE))
        self.active: Tensor
        self.classes: Tensor
        self.owners: Tensor
        self.threshold: Tensor
        self.steps: Tensor
        self.register_buffer("active", torch.zeros(members, cap, dtype=torch.bool))
        self.register_buffer("classes", torch.zeros(members, cap, dtype=torch.int8))
        self.register_buffer("owners", torch.full((members, cap, builders), -1))
        self.register_buffer("threshold", torch.full((members,), math.inf))
        self.register_buffer("steps", torch.zeros(members, dtype=torch.long))
        self._seen: list[_Seen] = []
        self._apart: _Apart | None = None

    @property
    def counts(self) -> Tensor:
        """Number of prototypes in use, ``[M]``."""
        return self.active.sum(dim=-1)

    @property
    def kappas(self) -> Tensor:
        """Sharpness of the weights, ``[M]``."""
        return self.log_kappa.float().exp()

    def normed(self, states: Tensor) -> Tensor:
        """Return vectors in the space of the prototypes, ``[N, d]``."""
        return layer_normed(states, self.plain)

    def forward(self, states: Tensor, owners: Tensor | None = None, classes: Tensor | None = None) -> Tensor:
        """Return scores ``[N, M]`` of vectors ``[N, d]``.

        ``owners`` ``[N]`` numbers the prompts and ``classes`` ``[N]`` or ``[N, M]`` says whether a response was chosen
        (1), rejected (-1) or neither (0); both serve training only.
        """
        h = self.normed(states)
        v = self.weight.float()
        own = h @ v.T
        used = self._used()
        if used == 0:
            return own
        points = self.points[:, :used].float()
        distances = squared_distances(h, points, scaled=self.scaled)
        usable = others = self._usable(owners, len(h), used)
        if self.training:
            usable = usable & ~self._dropped(used)
        if self.released:
            usable = usable & self._of_class(distances, usable, classes if self.training else None)
        q = mixture_weights(distances, self.kappas, usable)
        mixed = torch.einsum("nmk,mk->nm", q, torch.einsum("mkd,md->mk", points, v))
        scores = torch.where(usable.any(dim=-1), torch.lerp(own, mixed, self.omega_now()), own)
        if self.class_weight:
            chosen = self.classes[:, :used] > 0
            term = class_term(distances, self.kappas, usable & chosen, usable & ~chosen)
            scores = scores + self.class_weight * term
        if self.training and owners is not None and classes is not None:
            classes = classes.reshape(len(h), -1).expand(-1, len(points))
            self._seen.append(_Seen(h.detach(), distances.detach(), others, owners, classes))
        return scores

    def basis(self, states: Tensor) -> Tensor | None:
        """Return the blends of vectors and prototypes, as outside training; None with the class term."""
        if self.class_weight:
            return None
        h = self.normed(states).unsqueeze(1)
        q = self.weights(states)
        blend = torch.lerp(h, torch.einsum("nmk,mkd->nmd", q, self.points.float()), self.omega_now().unsqueeze(-1))
        return torch.where(q.sum(dim=-1, keepdim=True) > 0, blend, h)

    def last_weights(self) -> Tensor:
        """Return the weights of the blends."""
        return self.weight.float()

    def omega_now(self) -> Tensor:
        """Return the share of the prototypes at this step, ``[M]``."""
        if self.omega_logit is not None:
            return (OMEGA_RATE * self.omega_logit.float()).sigmoid()
        omega = torch.full((len(self.steps),), self.omega, device=self.steps.device)
        return torch.minimum(omega, torch.exp(-RELEASED_DECAY * self.steps)) if self.fading else omega

    def weights(self, states: Tensor) -> Tensor:
        """Return the weights of all prototypes for vectors ``[N, d]``, as outside training: ``[N, M, cap]``."""
        return self.weights_and_distances(states)[0]

    def weights_and_distances(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same with the distances of all slots, used or not; ``[N, M, cap]`` each."""
        distances = squared_distances(self.normed(states), self.points.float(), scaled=self.scaled)
        usable = self.active.expand(distances.shape)
        if self.released:
            usable = usable & self._of_class(distances, usable, None)
        return mixture_weights(distances, self.kappas, usable), distances

    def nearest(self, states: Tensor) -> Tensor:
        """Return the distance from the nearest prototype in use, ``[N, M]``; infinite where there is none."""
        distances = squared_distances(self.normed(states), self.points.float(), scaled=self.scaled)
        return distances.masked_fill(~self.active, math.inf).amin(dim=-1)

    def bounds(self) -> Tensor:
        """Return IMP's threshold for chosen and for rejected responses in the unit of the distances, ``[M, 2]``."""
        width = self.points.shape[-1]
        found = [
            imp_threshold(spread_of(self.points, self.active & (self.classes == own)), width, self.alpha, self.variance)
            for own in (1, -1)
        ]
        return torch.stack(found, dim=-1) / (width if self.scaled else 1)

    def penalty(self) -> Tensor | None:
        """Return the diversity of both classes, ``[M]``."""
        used = self._used()
        if used == 0 or not self.points.requires_grad:
            return None
        points, classes = self.points[:, :used], self.classes[:, :used]
        if self._still_apart(points.detach(), classes):
            return torch.zeros(len(points), device=points.device)
        return diversity_loss(points, classes, self.tau, scaled=self.scaled)

    @torch.no_grad()
    def _still_apart(self, points: Tensor, classes: Tensor) -> bool:
        """Tell whether all prototypes of a class are far enough apart, mostly from how far each has moved since then.

        Two points come nearer by no more than they have moved; all distances are looked at when that says too little.
        """
        unit = math.sqrt(points.shape[-1]) if self.scaled else 1.0
        if self._apart is not None and torch.equal(self._apart.classes, classes):
            moved = float((points - self._apart.points).square().sum(dim=-1).amax().sqrt()) / unit
            if 2 * moved < self._apart.slack:
                return True
        slack = least_distance(points, classes, scaled=self.scaled) - self.tau
        # what rounding may hide is no slack
        self._apart = _Apart(points.clone(), classes.clone(), slack - 1e-3) if slack > 1e-3 else None
        return slack > 1e-3

    @torch.no_grad()
    def end_step(self) -> None:
        """Grow, and keep the effective number of prototypes in its band."""
        self.steps += 1
        if self._seen:
            seen = _Seen(*map(torch.cat, zip(*self._seen, strict=True)))
            self._seen.clear()
            if not self.released:
                self._keep_in_band(seen)
            if self.growth != "off":
                self._grow(seen)

    def _grow(self, seen: _Seen) -> None:
        far = self._far(seen.distances, seen.classes, self.active[:, : seen.distances.shape[-1]])
        far &= (seen.classes != 0) & (self.counts < self.cap) & (self.counts > 0)
        # by prompt, so that it is the same whatever the micro-batches were
        order = seen.owners.argsort(stable=True)
        for place, member in far[order].nonzero().tolist():
            text = int(order[place])
            self._add_if_far(member, seen.h[text], int(seen.classes[text, member]), int(seen.owners[text]))

    def _add_if_far(self, member: int, h: Tensor, own: int, owner: int) -> None:
        """Look once more, beside those that this step has added."""
        count = int(self.counts[member])
        if count == self.cap:
            return
        squares = (h - self.points[member, :count].float()).square()
        distances = (squares.mean(dim=-1) if self.scaled else squares.sum(dim=-1)).reshape(1, 1, -1)
        classes = torch.tensor([[own]], device=h.device)
        if self._far(distances, classes, self.active[[member], :count], [member]):
            self.add(member, h, own, [owner])

    def _far(
        self, distances: Tensor, classes: Tensor, active: Tensor, members: list[int] | slice = slice(None)
    ) -> Tensor:
        """Tell which responses are beyond the threshold from every prototype, ``[N, M]``."""
        if self.growth == "quantile":
            return distances.masked_fill(~active, math.inf).amin(dim=-1) > self.threshold[members]
        same = active & (self.classes[members, : active.shape[-1]] == classes.unsqueeze(-1))
        near = distances.masked_fill(~same, math.inf).amin(dim=-1)
        bounds = self.bounds()[members]
        bound = torch.where(classes > 0, bounds[:, 0], bounds[:, 1])
        # the released code compares a distance with the bound for its square
        return (near.sqrt() if self.released else near) > bound

    @torch.no_grad()
    def add(self, member: int, point: Tensor, own: int, owners: list[int]) -> None:
        """Put a prototype into the next free slot of a member.

        Raises
        ------
        IndexError
            If the bank is full.
        """
        slot = int(self.counts[member])
        if slot >= self.cap:
            raise IndexError(f"the bank holds its {self.cap} prototypes already")
        self.points[member, slot] = point.to(self.points.dtype)
        self.classes[member, slot] = own
        self.owners[member, slot] = torch.tensor(owners + [-1] * (self.builders - len(owners)))
        self.active[member, slot] = True

    def _keep_in_band(self, seen: _Seen) -> None:
        """Bring kappa back where the median effective number of the responses of this step has left the band."""
        q = mixture_weights(seen.distances, self.kappas, seen.others)
        found = effective_number(q).median(dim=0).values
        low, high = band(self.counts)
        for member in (((found < low) | (found > high)) & (self.counts >= 6)).nonzero()[:, 0].tolist():
            goal = float(low[member] if found[member] < low[member] else high[member])
            self.log_kappa[member] = fitted_log_kappa(seen.distances[:, member], seen.others[:, member], goal)

    def _used(self) -> int:
        return int(self.counts.max())

    def _usable(self, owners: Tensor | None, count: int, used: int) -> Tensor:
        """Return the prototypes that each response may be mixed from, ``[N, M, used]``."""
        active = self.active[:, :used].expand(count, -1, -1)
        if owners is None or not self.training:
            return active
        built = (self.owners[:, :used].unsqueeze(0) == owners.reshape(-1, 1, 1, 1)).any(dim=-1)
        return active & ~built

    def _dropped(self, used: int) -> Tensor:
        """Draw the prototypes that this step leaves out, ``[M, used]``; the same in all its micro-batches."""
        if self.drop == 0:
            return torch.zeros_like(self.active[:, :used])
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + int(self.steps.max()))
        drawn = torch.rand(self.active.shape, generator=generator).to(self.active.device)[:, :used]
        dropped = torch.zeros_like(self.active[:, :used])
        for own in (1, -1):
            of = self.active[:, :used] & (self.classes[:, :used] == own)
            rank = drawn.masked_fill(~of, math.inf).argsort(dim=-1).argsort(dim=-1)
            dropped |= of & (rank < (self.drop * of.sum(dim=-1, keepdim=True)).floor())
        return dropped

    def _of_class(self, distances: Tensor, usable: Tensor, classes: Tensor | None) -> Tensor:
        """Return the prototypes of the class of each response, as the released code tells it, ``[N, M, used]``."""
        own = self.classes[:, : distances.shape[-1]]
        if classes is None:
            near = distances.masked_fill(~usable, math.inf).topk(
                min(RELEASED_VOTERS, distances.shape[-1]), largest=False
            )
            votes = own.expand(distances.shape).gather(-1, near.indices) * near.values.isfinite()
            classes = torch.where(votes.sum(dim=-1) >= 0, 1, -1)
        classes = classes.reshape(len(distances), -1, 1)
        return (own == classes) | (classes == 0)
