"""Settings of ``assay align`` for methods that learn from rewards of what the policy writes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from assay.config import Positional, Settings
from assay.credit.redistribution import FirstToken
from assay.credit.spreading import Granularity
from assay.objectives.surrogates import Average
from assay.scorers.verifiers import Kind
from assay.workflows.label_settings import JudgeAsking
from assay.workflows.model_settings import Schedule, TextSettings
from assay.workflows.run_settings import ReadingSettings, RunSettings
from assay.workflows.settings import unknown_loggers

OnlineMethod = Literal["ppo", "grpo", "dr_grpo", "rloo", "reinforce", "gspo", "gpo"]
CreditKind = Literal["terminal", "redistributed", "uniform", "shuffled", "attention", "critic_offset"]
#: Credit that is worked out from scores of prefixes.
OF_PREFIXES = ("redistributed", "uniform", "shuffled", "critic_offset")


class RolloutSettings(Settings):
    """What is written in a cycle."""

    prompts: int = Field(default=16, ge=1, description="prompts answered in a cycle")
    responses: int = Field(default=4, ge=1, description="responses to each prompt")
    max_new_tokens: int = Field(default=128, ge=1, description="longest response")
    temperature: float = Field(default=1.0, gt=0, description="of sampling; the policy learns at it")
    inner_epochs: int = Field(default=1, ge=1, description="how often a cycle's responses are gone through")
    minibatches: int = Field(default=1, ge=1, description="steps in each of these passes")
    token_budget: int = Field(default=65536, ge=16, description="tokens written together, prompts and responses")
    engine: Literal["generate", "continuous", "vllm"] = Field(
        default="generate", description="what writes: transformers, its continuous batching, or vllm where it is there"
    )
    engine_memory: float = Field(default=0.3, gt=0, lt=1, description="share of the accelerator that vllm may take")


#: A route, in the place of a reward model: the right label is rewarded.
BY_LABEL = "verifier"


class VerifierSettings(Settings):
    """Compare answers with the truth."""

    kind: Kind = Field(
        description="exact, numeric, format (a pattern is found), near (2.5 minus the distance), or label (of the last "
        "line, one of the column choices, as assay task writes them)"
    )
    pattern: str | None = Field(default=None, description="regular expression that finds the answer; none: all of it")
    right: float = Field(default=1.0, description="reward of the truth")
    wrong: float | None = Field(default=None, description="reward of another answer; none: 0, label -1")
    unparsed: float | None = Field(
        default=None, description="where there is no answer; none: as wrong, label -3, near -3 or below any answer"
    )
    bounds: tuple[float, float] | None = Field(
        default=None, description="least and greatest number of near; none: of the column choices, without it 0 and 5"
    )
    column: str = Field(default="ground_truth", description="of the data: the truth")
    majority: bool = Field(default=False, description="the truth is what most responses to the prompt answer (SeRL)")


class RewardSettings(Settings):
    """Where rewards come from; several are added up."""

    model: str | None = Field(default=None, description="reward model: run folder or Hub id")
    routes: dict[str, str] = Field(
        default_factory=dict,
        description="value of the column task -> the one reward model that scores its answers, or verifier: the right "
        "label does; none: all by the others",
    )
    lower_by: float | None = Field(
        default=None, ge=0, description="deviations taken off an uncertain model's score; none: nothing"
    )
    verifier: VerifierSettings | None = Field(default=None, description="compare answers with the truth; none: not")
    functions: tuple[str, ...] = Field(default=(), description="FILE.py:name of functions in TRL's reward_funcs shape")
    urls: tuple[str, ...] = Field(default=(), description="reward servers in OpenRLHF's format")
    timeout: float = Field(default=180.0, gt=0, description="seconds that a reward server may take")
    tries: int = Field(default=5, ge=1, description="times that it is asked while it fails")
    key_variable: str = Field(default="ASSAY_REWARD_KEY", description="environment variable that holds its key")
    judge: JudgeAsking | None = Field(default=None, description="a language model that grades from 1 to 10; none: not")
    weights: tuple[float, ...] = Field(
        default=(),
        description="of model, routes, verifier, functions, servers and judge, those that are there; none: 1 each",
    )
    normalise: bool = Field(
        default=False, description="bring the scores of the reward model, or of each route, to mean 0 and deviation 1"
    )

    def models(self) -> list[str]:
        """Name the reward models, the one of all prompts and those of tasks."""
        routed = [name for name in self.routes.values() if name != BY_LABEL]
        return routed if self.model is None else [self.model, *routed]

    def sources(self) -> list[str]:
        """Name what is there, in the order of weights."""
        found = ["model"] if self.model else []
        found += ["routes"] if self.routes else []
        found += ["verifier"] if self.verifier else []
        found += list(self.functions)
        return found + (["servers"] if self.urls else []) + (["judge"] if self.judge else [])


class RedistributionSettings(Settings):
    """How the reward model's score is given to tokens."""

    first_token: FirstToken = Field(default="subtract_prompt", description="what the first token gets")
    mix: float = Field(default=1.0, ge=0, le=1, description="share that is redistributed; the rest comes at the end")
    by: Granularity = Field(
        default="token", description="what gets it: each token, or the one that shows a word or sentence to be whole"
    )


class CostSettings(Settings):
    """A cost that a multiplier holds within a budget."""

    model: str = Field(description="cost model: a reward model whose higher scores are worse")
    budget: float = Field(default=0.0, description="mean cost of a response that is allowed")
    rate: float = Field(default=0.1, gt=0, description="of the multiplier")
    start: float = Field(default=0.0, ge=0, description="multiplier to begin with")


class RationaleSettings(Settings):
    """RLLR's mix: the reward of labels up to a cap, and that of rationales.

    The cap is of ``--reward.model``, or of the one source there is; other sources are added to the mix as they are.
    """

    model: str = Field(description="reward model of rationales")
    cap: float | None = Field(
        default=None,
        gt=-math.inf,
        allow_inf_nan=True,
        description="of the main reward, in its own units, or inf; none: by --rationale.quantile",
    )
    quantile: float = Field(
        default=0.5, ge=0, le=1, description="of the main model's scores of held-out right answers: the cap"
    )


class CriticSettings(Settings):
    """The value model of ppo."""

    kind: Literal["shared", "own"] = Field(default="own", description="on the policy's states, or a model of its own")
    begin: str = Field(
        default="auto",
        description="of an own one: reward (the reward model), policy, or a reward model's name; auto: reward where "
        "its score comes at the end as it is, else policy",
    )
    learning_rate: float | None = Field(default=None, gt=0, description="none: that of the policy")
    weight: float = Field(default=0.5, ge=0, description="of its loss, beside that of the policy")
    clip: float | None = Field(default=0.2, gt=0, description="how far values may move at once; none: any way")


class KlSettings(Settings):
    """How far the policy may go from its reference; none: as usual of the method."""

    kind: Literal["reward", "k2", "k3"] | None = Field(default=None, description="taken off rewards, or in the loss")
    coefficient: float | None = Field(default=None, ge=0, description="0: no reference")
    target: float | None = Field(default=None, gt=0, description="nats a response towards which it moves; none: stays")
    horizon: int = Field(default=10_000, ge=1, description="responses over which it moves")


class LengthSettings(Settings):
    """What length and a missing end cost."""

    per_token: float = Field(default=0.0, description="taken off for each token beyond --length.free")
    free: int = Field(default=0, ge=0, description="tokens that cost nothing")
    no_end: float = Field(default=0.0, description="taken off where a response was cut")


class OnlineSettings(RunSettings, ReadingSettings, TextSettings):
    """Who learns from which rewards, and how."""

    data: Annotated[str, Positional] = Field(description="prompts: a file, a folder, or a Hub id")
    out: str = Field(description="run folder to make")
    method: OnlineMethod = Field(description="what is usual of it can be changed below")
    backbone: str = Field(description="the policy to begin with: Hub id or folder of a causal language model")
    reward: RewardSettings = Field(default=RewardSettings(), description="where rewards come from")
    credit: CreditKind = Field(
        default="terminal",
        description="the reward model's score at the last token, or redistributed (R3HF); the others are controls",
    )
    redistribution: RedistributionSettings = Field(
        default=RedistributionSettings(), description="how the score is given to tokens"
    )
    cost: CostSettings | None = Field(default=None, description="a cost held within a budget; none: no cost")
    rationale: RationaleSettings | None = Field(default=None, description="RLLR's capped mix; none: not")
    length: LengthSettings = Field(default=LengthSettings(), description="what length and a missing end cost")
    rollout: RolloutSettings = Field(default=RolloutSettings(), description="what is written in a cycle")
    critic: CriticSettings = Field(default=CriticSettings(), description="the value model of ppo")
    kl: KlSettings = Field(default=KlSettings(), description="how far the policy may go")
    low: float | None = Field(default=None, ge=0, lt=1, description="ratios are clipped at 1 - low; none: as usual")
    high: float | None = Field(default=None, ge=0, description="ratios are clipped at 1 + high; none: as usual")
    average: Average | None = Field(default=None, description="of losses: over tokens, sequences, or by the longest")
    discount: float = Field(default=1.0, ge=0, le=1, description="of rewards to come")
    trace: float = Field(default=0.95, ge=0, le=1, description="of generalised advantages")
    whiten: bool | None = Field(default=None, description="standardise advantages over a cycle; none: as usual")
    beta: float = Field(default=0.001, gt=0, description="of gpo: how far one round goes")
    drop_equal: bool = Field(default=False, description="leave out prompts whose rewards are all equal")
    band: tuple[float, float] | None = Field(
        default=None, description="leave out prompts whose mean reward is outside (SeRL: 0.2 0.8); none: none"
    )
    reset_after: int | None = Field(
        default=None, ge=1, description="cycles without a better reward until the reference is reset; none: never"
    )
    gold: str | None = Field(default=None, description="reward model that watches and teaches nothing; none: nobody")
    test: str | None = Field(default=None, description="held-out prompts; none: a share of DATA")
    test_share: float = Field(default=0.1, ge=0, lt=1, description="share of the groups held out; 0: none")
    held_out: int = Field(default=200, ge=1, description="held-out prompts that are answered, at most")
    evaluate_every: int = Field(default=0, ge=0, description="cycles between two looks at them; 0: before and after")
    epochs: float = Field(default=1.0, gt=0, description="how often each prompt is answered in turn")
    cycles: int | None = Field(default=None, ge=1, description="instead of --epochs; none: by epochs")
    learning_rate: float | None = Field(
        default=None, gt=0, description="none: 1e-5 below 100M parameters and with LoRA, else 1e-6"
    )
    token_budget: int = Field(default=8192, ge=16, description="tokens per forward pass; memory, not results")
    warmup_share: float = Field(default=0.0, ge=0, lt=1, description="share of steps in which the rate rises")
    scheduler: Schedule = Field(default="constant", description="learning-rate schedule after the warm-up")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW weight decay, of matrices only")
    max_gradient_norm: float = Field(default=1.0, ge=0, description="gradients are clipped to it; 0: never")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 compute where the hardware multiplies in it; weights stay fp32"
    )
    compile: bool = Field(default=False, description="compile the policy's layers; try whether it pays")
    save_every: int = Field(default=10, ge=1, description="cycles between two checkpoints")
    shown: int = Field(default=12, ge=0, description="prompts in the table of samples")
    report_to: tuple[str, ...] = Field(default=(), description="loggers that transformers knows, such as tensorboard")
    resume: bool = Field(default=False, description="continue an interrupted run, or begin if there is none")
    dropout: Literal["hidden", "all", "none"] = Field(
        default="none", description="as the policy was pretrained, with or without attention weights; or none"
    )

    @model_validator(mode="before")
    @classmethod
    def _map_prompts(cls, given: Any) -> Any:
        """Let a mapping that does not say what rows become be one of prompts, which is all that is read here."""
        mapping = given.get("mapping") if isinstance(given, dict) else None
        return given | {"mapping": {"kind": "prompts", **mapping}} if isinstance(mapping, dict) else given

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict each other, or that would be accepted and then ignored."""
        if self.resume and self.overwrite:
            yield "resume", "continues what --overwrite would delete; choose one"
        sources = self.reward.sources()
        if not sources:
            yield "reward", "nothing gives rewards: --reward.model, .verifier.kind, .functions, .urls or .judge"
        if self.reward.weights and len(self.reward.weights) != len(sources):
            yield "reward.weights", f"are {len(self.reward.weights)} for {len(sources)}: {', '.join(sources)}"
        if not self.reward.models():
            for name in ("normalise", "lower_by"):
                if getattr(self.reward, name):
                    yield f"reward.{name}", "belongs to --reward.model"
            if self.credit != "terminal":
                yield "credit", "is worked out from the scores of --reward.model"
        if self.credit != "terminal" and self.reward.lower_by is not None:
            yield "reward.lower_by", "is of whole scores; leave out --credit"
        if self.credit == "terminal" and self.redistribution != RedistributionSettings():
            yield "redistribution", "belongs to --credit redistributed"
        if self.credit == "critic_offset" and self.method != "ppo":
            yield "credit", "critic_offset needs the critic of --method ppo"
        if self.cost is not None and self.rationale is not None:
            yield "cost", "and --rationale are two ways to mix; choose one"
        yield from self._of_the_method()
        if self.test is not None and self.test_share != type(self).model_fields["test_share"].default:
            yield "test_share", "nothing is split off beside --test"
        if self.cycles is not None and self.epochs != 1.0:
            yield "epochs", "and --cycles say the same; choose one"
        yield from self._without_effect()
        yield from unknown_loggers(self)

    def _without_effect(self) -> Iterator[tuple[str, str]]:
        """Yield what would be accepted and then ignored."""
        fields, of_reward = type(self).model_fields, RewardSettings.model_fields
        if not self.reward.urls:
            for name in ("timeout", "tries", "key_variable"):
                if getattr(self.reward, name) != of_reward[name].default:
                    yield f"reward.{name}", "belongs to --reward.urls"
        if self.test is None and self.test_share == 0:
            for name in ("held_out", "evaluate_every"):
                if getattr(self, name) != fields[name].default:
                    yield name, "looks at held-out prompts, and --test-share 0 holds none out"
        if self.rollout.engine != "vllm" and self.rollout.engine_memory != RolloutSettings().engine_memory:
            yield "rollout.engine_memory", "belongs to --rollout.engine vllm"
        if self.rollout.engine != "generate" and self.rollout.token_budget != RolloutSettings().token_budget:
            yield "rollout.token_budget", f"{self.rollout.engine} decides itself what is written together"
        if self.length.free and not self.length.per_token:
            yield "length.free", "belongs to --length.per-token"
        if self.credit == "attention" and self.redistribution != RedistributionSettings():
            yield "redistribution", "is of scores of prefixes, which --credit attention does not look at"
        if self.kl.target is None and self.kl.horizon != KlSettings.model_fields["horizon"].default:
            yield "kl.horizon", "belongs to --kl.target"
        verifier = self.reward.verifier
        if verifier is not None and verifier.majority:
            if (verifier.right, verifier.wrong, verifier.unparsed) != (1.0, None, None):
                yield "reward.verifier", "majority gives 1 and 0"
            if verifier.kind == "label":
                yield (
                    "reward.verifier.majority",
                    "compares what a pattern finds; leave it out, or choose --reward.verifier.kind exact",
                )
            if self.test is not None or self.test_share:
                yield "reward.verifier.majority", "one answer is its own majority: hold nothing out (--test-share 0)"
        if self.reward.routes and self.rationale is not None:
            yield "reward.routes", "scores answers of some tasks only, and --rationale caps one reward model's scores"
        if self.rationale is not None:
            if self.rationale.cap is not None and self.rationale.quantile != 0.5:
                yield "rationale.quantile", "and --rationale.cap say the same; choose one"
            if self.rationale.cap is None and self.reward.model is None:
                yield "rationale.cap", "is needed: only a --reward.model knows what right answers score"
            if self.reward.model is None and len(self.reward.sources()) > 1:
                yield "rationale", f"caps one reward, and there are {', '.join(self.reward.sources())}; leave one"
            if self.reward.weights:
                yield "reward.weights", "would change the units of --rationale.cap"
        if self.reward.normalise and self.rationale is not None:
            yield "reward.normalise", "would change the units of --rationale.cap"
        if self.drop_equal and self.rollout.responses < 2:
            yield "drop_equal", "leaves out every prompt with one response"
        if self.band is not None and self.band[0] > self.band[1]:
            yield "band", "the lower end comes first"

    def _of_the_method(self) -> Iterator[tuple[str, str]]:
        if self.method != "ppo":
            if self.critic != CriticSettings():
                yield "critic", "belongs to --method ppo"
            if self.trace != type(self).model_fields["trace"].default:
                yield "trace", "belongs to --method ppo"
        elif self.critic.kind == "own" and self.critic.begin == "reward" and self.reward.model is None:
            yield "critic.begin", "there is no reward model; choose policy, or --critic.kind shared"
        elif self.critic.kind == "shared" and self.critic.begin != "auto":
            yield "critic.begin", "belongs to --critic.kind own"
        if self.method in ("grpo", "dr_grpo", "rloo", "gspo", "gpo") and self.rollout.responses < 2:
            yield "rollout.responses", f"{self.method} compares responses to one prompt: 2 or more"
        if self.method == "gpo":
            names = ("low", "high", "whiten", "average")
            for name in (*names, *(["credit"] if self.credit != "terminal" else [])):
                if name == "credit" or getattr(self, name) is not None:
                    yield name, "has no effect on gpo, which looks at whole responses"
            if self.discount != 1.0:
                yield "discount", "has no effect on gpo, which looks at whole responses"
        if self.method != "gpo" and self.beta != type(self).model_fields["beta"].default:
            yield "beta", "belongs to --method gpo; how far others may go is --kl.coefficient"
