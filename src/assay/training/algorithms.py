"""What a policy learns from rewards by: a baseline, a surrogate and a divergence, each a setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from assay.errors import ConfigError
from assay.objectives.advantages import Baseline
from assay.objectives.surrogates import Average

Surrogate = Literal["token", "sequence", "regression"]


@dataclass(frozen=True)
class KlControl:
    """How far a policy may go from its reference.

    Attributes
    ----------
    kind
        ``reward``: the log-ratio of each token is taken off its reward (k1). ``k2``, ``k3``: an estimate in the loss
        (`assay.objectives.surrogates.divergence`). Never both.
    coefficient
        0 or more; 0: no reference is needed.
    target
        Divergence of a response, in nats, towards which the coefficient moves (Ziegler et al. 2019); None: it stays.
    horizon
        Responses over which it moves.
    """

    kind: Literal["reward", "k2", "k3"] = "reward"
    coefficient: float = 0.05
    target: float | None = None
    horizon: int = 10_000

    def moved(self, coefficient: float, divergence: float, responses: int) -> float:
        """Return the coefficient after some responses whose mean divergence was measured."""
        if self.target is None:
            return coefficient
        error = min(max(divergence / self.target - 1.0, -0.2), 0.2)
        return coefficient * (1.0 + error * responses / self.horizon)


@dataclass(frozen=True)
class Algorithm:
    """One way to learn from rewards; `ALGORITHMS` names the published ones.

    Attributes
    ----------
    baseline
        ``critic``: generalised advantages of a value model; else `assay.objectives.advantages.Baseline`.
    surrogate
        ``token``: clipped ratios of tokens; ``sequence``: of sequences (GSPO); ``regression``: GPO's squared error of
        log-ratios.
    low, high
        The ratio is clipped at 1 - low and 1 + high.
    average
        See `assay.objectives.surrogates.over_tokens`.
    discount, trace
        Of returns, and of generalised advantages.
    whiten
        Advantages are standardised over all tokens of a cycle.
    kl
        Distance to the reference.
    value_weight, value_clip
        Of the critic's loss; None: not clipped.
    beta
        Of ``regression``.
    drop_equal
        Responses to prompts whose rewards are all equal are left out (DAPO, Yu et al. 2025).
    band
        Prompts whose mean reward lies outside are left out (SeRL, Fang et al. 2025); None: none.
    reset_after
        Cycles without a better mean reward after which the reference becomes the policy and the optimiser begins anew
        (ProRL, Liu et al. 2025); None: never.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    baseline: Baseline | Literal["critic"] = "critic"
    surrogate: Surrogate = "token"
    low: float = 0.2
    high: float = 0.2
    average: Average = "tokens"
    discount: float = 1.0
    trace: float = 0.95
    whiten: bool = False
    kl: KlControl = field(default_factory=KlControl)
    value_weight: float = 0.5
    value_clip: float | None = 0.2
    beta: float = 0.001
    drop_equal: bool = False
    band: tuple[float, float] | None = None
    reset_after: int | None = None

    def __post_init__(self) -> None:
        ranges = {
            "low": (self.low, 0 <= self.low < 1, "0 to below 1"),
            "high": (self.high, self.high >= 0, "0 or more"),
            "discount": (self.discount, 0 <= self.discount <= 1, "0 to 1"),
            "trace": (self.trace, 0 <= self.trace <= 1, "0 to 1"),
            "kl.coefficient": (self.kl.coefficient, self.kl.coefficient >= 0, "0 or more"),
            "kl.target": (self.kl.target, self.kl.target is None or self.kl.target > 0, "above 0"),
            "beta": (self.beta, self.beta > 0, "above 0"),
            "band": (self.band, self.band is None or self.band[0] <= self.band[1], "the lower end first"),
        }
        for name, (value, fits, expected) in ranges.items():
            if not fits:
                raise ConfigError("a setting is out of range", where=name, expected=expected, got=str(value))
        if self.kl.target is not None and self.kl.coefficient == 0:
            raise ConfigError(
                "a coefficient of 0 never moves", where="kl.target", remedy="--kl.coefficient 0.05, to begin with"
            )

    @property
    def needs_critic(self) -> bool:
        """Whether a value model takes part."""
        return self.baseline == "critic"


#: Schulman et al. 2017; Shao et al. 2024; Liu et al. 2025; Ahmadian et al. 2024; Hu 2025; Zheng et al. 2025; Zhang et
#: al. 2025. GRPO's k3 in the loss is off, as in what is run today.
ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(whiten=True),
    "grpo": Algorithm("normalised", average="sequences", kl=KlControl("k3", 0.0)),
    "dr_grpo": Algorithm("centred", average="length", kl=KlControl("k3", 0.0)),
    "rloo": Algorithm("leave_one_out"),
    "reinforce": Algorithm("none", whiten=True),
    "gspo": Algorithm(
        "normalised", surrogate="sequence", low=3e-4, high=4e-4, average="sequences", kl=KlControl("k3", 0.0)
    ),
    "gpo": Algorithm("centred", surrogate="regression", average="sequences", kl=KlControl("reward", 0.0)),
}
