"""Settings of ``assay align``: a policy straight from comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from assay.config import Settings
from assay.objectives.policy import Kernel
from assay.scorers.policy import Form
from assay.workflows.feedback_settings import Graded, Judged, MarginMatching, Target
from assay.workflows.model_settings import OptimiserSettings, TextSettings
from assay.workflows.settings import JobSettings, unknown_loggers

MethodName = Literal["dpo", "ipo", "slic", "kto", "simpo", "orpo", "sft"]
#: Methods that learn of each response by itself.
SINGLE = ("kto", "sft")


@dataclass(frozen=True)
class Usual:
    """What a method is usually made of.

    Attributes
    ----------
    form, kernel
        See `assay.scorers.policy.Policy` and `assay.objectives.policy.margin_loss`.
    beta
        Scale of scores.
    compared
        Whether a reference takes part.
    margin
        Score units that the better response is to be ahead by.
    likelihood
        Weight of minus the log-likelihood of the better response, per token, beside the loss of its judgement.
    """

    form: Form
    kernel: Kernel
    beta: float
    compared: bool = True
    margin: float = 0.0
    likelihood: float = 0.0


#: Rafailov et al. 2023; Azar et al. 2024; the hinge of Zhao et al. 2023 on log-ratios (Liu et al. 2024); Meng et al.
#: 2024; Hong et al. 2024 (whose lambda of 0.1 weighs the odds, so that the likelihood weighs ten times as much);
#: Ethayarajh et al. 2024, which has no margins; and the likelihood of good responses alone, a policy to begin with.
METHODS: dict[str, Usual] = {
    "dpo": Usual("sum", "logistic", 0.1),
    "ipo": Usual("sum", "squared", 0.1),
    "slic": Usual("sum", "hinge", 0.1),
    "kto": Usual("sum", "logistic", 0.1),
    "simpo": Usual("mean", "logistic", 2.0, compared=False, margin=1.0),
    "orpo": Usual("odds", "logistic", 1.0, compared=False, likelihood=10.0),
    "sft": Usual("sum", "logistic", 0.1, compared=False),
}


class ProspectSettings(Settings):
    """Which responses are good (kto, sft), and what they and bad ones weigh (kto)."""

    good: float = Field(default=1.0, gt=0, description="weight of good responses")
    bad: float = Field(default=1.0, gt=0, description="weight of bad responses")
    good_from: float | None = Field(
        default=None, description="grades from it on are good ones, others bad; none: grades are P(good), from 0 to 1"
    )


class MixtureSettings(Settings):
    """MRPO: several references as one."""

    others: tuple[str, ...] = Field(min_length=1, description="further references: models with the same vocabulary")
    weights: Literal["confidence", "crossed", "equal"] = Field(
        default="confidence",
        description="by how far each tells the replies of held-out prompts apart; crossed: of two references each has "
        "the other's weight, as released; or all equal",
    )
    clip: float = Field(default=0.1, ge=0, description="eta: how far others may stray from the first; 0: not at all")


class AverageSettings(Settings):
    """SAPO's reference: a moving average of the policy, taken over from time to time."""

    kind: Literal["average"] = Field(description="a moving average of the policy's weights, taken over now and then")
    factor: float = Field(default=0.5, ge=0, le=1, description="of the average that is kept at each step")
    every: int = Field(default=108, ge=1, description="steps from one takeover to the next")


class ResetSettings(Settings):
    """ProRL's reference: the policy itself from time to time, and an optimiser that begins anew."""

    kind: Literal["reset"] = Field(description="the policy as it is now, and an optimiser that begins anew")
    every: int = Field(default=200, ge=1, description="steps from one reset to the next")


class DegradedSettings(Settings):
    """SPO: worse versions of responses, whose order is known."""

    levels: int = Field(default=3, ge=2, description="versions of a response, the response itself among them")
    weight: float = Field(
        default=0.1, ge=0, description="of all judgements between versions, in units of a record's own; 0: none"
    )


class BridgeSettings(Settings):
    """BMC: worse responses that a model edits towards the better ones."""

    model: str = Field(description="causal model that edits: Hub id or folder")
    max_new_tokens: int = Field(default=256, ge=1, description="longest edit")


class SelmSettings(Settings):
    """SELM: preferences first, then the best against the worst of them and of the policy's own answers."""

    kind: Literal["selm"] = Field(description="rounds on preferences and on the policy's own answers (SELM)")
    ranker: str = Field(description="reward model that ranks responses")
    count: int = Field(default=4, ge=2, description="rounds, each on a part of the prompts of its own")
    alpha: float = Field(default=0.001, ge=0, description="optimism from the second round on")
    last_rate: float = Field(default=0.2, gt=0, le=1, description="share of the learning rate in the last round")
    max_new_tokens: int = Field(default=256, ge=1, description="longest answer of the policy")


class SapoSettings(Settings):
    """SAPO: good answers against themselves with a piece that an average of the policy has grown anew."""

    kind: Literal["sapo"] = Field(description="rounds on pieces of good answers that are grown anew (SAPO)")
    count: int = Field(default=4, ge=1, description="rounds; after each the average moves and becomes the reference")
    pairs: int = Field(default=432, ge=1, description="answers that are regrown, and pairs that are drawn, in a round")
    factor: float = Field(default=0.5, ge=0, le=1, description="of the average that is kept after a round")
    tokens: int = Field(default=256, ge=1, description="longest piece")
    buffer: int = Field(default=2000, ge=1, description="pairs that are kept to draw from")
    temperature: float = Field(default=0.7, gt=0, description="of sampling")
    top_p: float = Field(default=0.95, gt=0, le=1, description="share of probability that is sampled from")
    top_k: int = Field(default=50, ge=0, description="tokens that are sampled from; 0: all")


RoundsOfPolicies = Annotated[SelmSettings | SapoSettings, Field(discriminator="kind")]
Moving = Annotated[AverageSettings | ResetSettings, Field(discriminator="kind")]


class AlignSettings(JobSettings, TextSettings, OptimiserSettings):
    """What is trained on what, and against which reference."""

    backbone: str = Field(description="the policy to begin with: Hub id or folder of a causal language model")
    method: MethodName = Field(
        default="dpo",
        description="what is usual of it can be changed below; methods with rewards (ppo, grpo, dr_grpo, rloo, "
        "reinforce, gspo, gpo) have settings of their own: --method ppo --help",
    )
    target: Target = Field(default=Judged(), description="what a judgement becomes; mmpo: margin matching")
    reference: str = Field(
        default="auto",
        description="auto: the policy as it came, where the method has one; none; or another model's name",
    )
    mixture: MixtureSettings | None = Field(default=None, description="several references as one (MRPO); none: one")
    moving: Moving | None = Field(default=None, description="a reference that follows the policy; none: it stays")
    beta: float | None = Field(default=None, gt=0, description="scale of scores; none: 0.1, simpo 2, orpo 1")
    per_token: bool | None = Field(
        default=None, description="scores are means over tokens, not sums; none: for simpo and orpo alone"
    )
    margin: float | None = Field(
        default=None, ge=0, description="score units that the better response is to be ahead by; none: 0, simpo 1"
    )
    likelihood: float | None = Field(
        default=None, ge=0, description="weight of minus the better response's log-likelihood; none: 0, orpo 10"
    )
    clip: float | None = Field(default=None, gt=0, description="scores beyond it do not count (TSO); none: all do")
    prospect: ProspectSettings = Field(default=ProspectSettings(), description="of kto and sft: good and bad responses")
    edit_delta: float = Field(
        default=0.0, ge=0, description="what tells a reply from the other one counts up to so much more (BMC); 0: not"
    )
    degraded: DegradedSettings | None = Field(
        default=None, description="also learn from responses whose key phrases were taken away (SPO); none: not"
    )
    assumed_order: tuple[str, ...] = Field(
        default=(), description="writers of responses, best first: whose response wins is also taken for granted (TSO)"
    )
    bridge: BridgeSettings | None = Field(
        default=None, description="put minimal edits of worse responses in the place of better ones (BMC); none: not"
    )
    optimism: float = Field(
        default=0.0, ge=0, description="weight of the scores of responses that are marked as the policy's own (SELM)"
    )
    rounds: RoundsOfPolicies | None = Field(
        default=None, description="rounds on what the policy writes itself (selm, sapo); none: one training"
    )
    epochs: int | None = Field(default=None, ge=1, description="passes over the data; none: 3, in rounds 1")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="none: 2e-5 below 100M parameters and with LoRA, else 1e-6; of sft 2e-4 and 2e-5",
    )
    dropout: Literal["hidden", "all", "none"] = Field(
        default="none", description="as the policy was pretrained, with or without attention weights; or none"
    )

    @property
    def usual(self) -> Usual:
        """What is usual of the method."""
        return METHODS[self.method]

    @property
    def form(self) -> Form:
        """What scores are made of."""
        if self.per_token is None or self.usual.form == "odds":
            return self.usual.form
        return "mean" if self.per_token else "sum"

    @property
    def scale(self) -> float:
        """Beta in force."""
        return self.beta or self.usual.beta

    @property
    def ahead(self) -> float:
        """Margin in force."""
        return self.usual.margin if self.margin is None else self.margin

    @property
    def told(self) -> float:
        """Weight of the likelihood in force."""
        return self.usual.likelihood if self.likelihood is None else self.likelihood

    @property
    def compared_with(self) -> str | None:
        """Name of the reference, ``"start"`` for the policy as it came; None: there is none."""
        if self.reference == "none" or (self.reference == "auto" and not self.usual.compared):
            return None
        return "start" if self.reference == "auto" else self.reference

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict each other, or that would be accepted and then ignored."""
        yield from super().conflicts()
        if self.compile and self.gradient_checkpointing:
            yield "compile", "would have no effect on layers that --gradient-checkpointing recomputes; choose one"
        if self.usual.form == "odds":
            if self.reference not in ("auto", "none"):
                yield "reference", "orpo looks at the odds of the policy alone"
            if self.per_token is False:
                yield "per_token", "orpo is about means over tokens"
        yield from self._of_references()
        yield from self._of_rounds()
        yield from self._of_verdicts()
        if self.ahead and self.target.kind in ("margin", "pcrm"):
            yield "margin", f"is set by --target.kind {self.target.kind} too; choose one (--margin 0)"
        if isinstance(self.target, MarginMatching) and self.target.sweep:
            yield "target.sweep", "is of assay train; name one --target.gamma"
        if self.target.kind == "pcrm":
            if self.told:
                yield (
                    "likelihood",
                    "would raise the worse replies too, which --target pcrm appends as reversed judgements",
                )
            if self.target.similarity == "cosine":
                yield "target.similarity", "needs the vectors of texts, which a policy does not give; use length"
        if self.validation_share == 0:
            names = ("evaluations_per_epoch", "patience", "calibration")
            yield from self._without_effect(names, "needs a validation share")
        yield from unknown_loggers(self)

    def _of_verdicts(self) -> Iterator[tuple[str, str]]:
        """Yield what is about margins, where single verdicts are learned, and the other way round."""
        if self.method not in SINGLE:
            yield from self._without_effect(("prospect",), "belongs to --method kto and sft")
            return
        if self.method == "sft" and (self.prospect.good, self.prospect.bad) != (1.0, 1.0):
            yield "prospect", "good and bad are weights of --method kto"
        if self.method == "sft" and self.compared_with is not None:
            yield "reference", "takes no part in --method sft"
        reason = f"is about judgements between responses, and {self.method} learns of each by itself"
        names = ("target", "clip", "edit_delta", "optimism", "degraded", "assumed_order", "bridge")
        yield from self._without_effect(names, reason)
        if self.margin:
            yield "margin", reason
        if self.told:
            yield "likelihood", reason

    def _of_rounds(self) -> Iterator[tuple[str, str]]:
        """Yield what does not go with rounds."""
        if self.rounds is None:
            return
        reason = "does not go with --rounds, in which each round has the one before as its reference"
        yield from self._without_effect(("lora", "moving", "mixture", "optimism"), reason)
        if isinstance(self.target, Graded):
            yield "target", "looks at grades or confidences, and the pairs that are made in rounds have none"
        names = ("assumed_order", "bridge", "degraded")
        yield from self._without_effect(names, "does not go with --rounds, which make pairs of their own")
        if self.reference not in ("auto", "none"):
            yield "reference", reason
        if self.method in SINGLE:
            yield "method", "rounds learn from pairs; choose dpo, or another method with margins"

    def _of_references(self) -> Iterator[tuple[str, str]]:
        """Yield references that do not go together."""
        if self.mixture is not None:
            if self.compared_with is None:
                yield "mixture", f"is of references, and {self.method} has none here"
            if self.moving is not None:
                yield "mixture", "is of references that stay as they are; leave out --moving"
            if self.edit_delta:
                yield "mixture", "is of whole replies, and --edit-delta of tokens; choose one"
            if self.mixture.weights == "crossed" and len(self.mixture.others) != 1:
                yield "mixture.weights", "crossed is of two references"
        if self.edit_delta and self.form == "odds":
            yield "edit_delta", "is about log-ratios; orpo has odds"
        if self.moving is not None:
            if self.compared_with != "start":
                yield (
                    "moving",
                    "begins with the policy as it came; choose a method with a reference, and leave that out",
                )
            if self.moving.kind == "average" and self.lora is not None:
                yield "moving.kind", "average is of whole models, and --lora trains an adapter; use reset"
