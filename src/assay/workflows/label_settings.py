"""Settings of ``assay label``: which functions vote, what weighs their votes, and which labels are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from assay.config import Positional, Settings
from assay.feedback import ColumnMapping
from assay.workflows.run_settings import ReadingSettings, RunSettings


class KeepAll(Settings):
    """Every pair on which a function votes."""

    kind: Literal["all"] = Field(default="all", description="label every pair on which a function votes")


class KeepConfident(Settings):
    """Pairs whose label is likely enough."""

    kind: Literal["confident"] = Field(description="label pairs whose likelier side has at least this probability")
    least: float = Field(default=0.8, gt=0.5, lt=1, description="probability of the likelier side")


class KeepWithinRisk(Settings):
    """As many pairs as an error bound allows; the others are written down for people."""

    kind: Literal["risk"] = Field(description="label as many pairs as a bound on wrong labels allows")
    error: float = Field(default=0.1, gt=0, lt=1, description="share of wrong labels that is allowed")
    of: Literal["all", "labelled"] = Field(
        default="all", description="a share of all pairs, in expectation; or of those that get a label, with certainty"
    )
    certainty: float = Field(default=0.9, gt=0, lt=1, description="of the bound on the labelled ones")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield a certainty of what holds in expectation."""
        if self.of == "all" and self.certainty != type(self).model_fields["certainty"].default:
            yield "certainty", "belongs to --keep.of labelled"


Keep = Annotated[KeepAll | KeepConfident | KeepWithinRisk, Field(discriminator="kind")]


class JudgeAsking(Settings):
    """A language model as a judge: each principle and each criterion is one more function."""

    local: str | None = Field(default=None, description="causal model, Hub id or folder, asked by its next token")
    url: str | None = Field(default=None, description="OpenAI-compatible server, up to /v1")
    model: str | None = Field(default=None, description="name of the model at --judge.url")
    rules: str | None = Field(
        default=None, description="YAML file of principles and criteria; none: three principles (docs/labelling.md)"
    )
    key_variable: str = Field(default="OPENAI_API_KEY", description="environment variable that holds the server's key")
    cache: str | None = Field(default=None, description="file of answers; none: in the cache folder of datasets")
    parallel: int = Field(default=8, ge=1, description="questions under way at a time")
    tries: int = Field(default=5, ge=1, description="times that a question is sent while the server fails")
    max_tokens: int = Field(
        default=8, ge=1, description="longest answer of a server; a model that thinks aloud first needs hundreds"
    )
    price_in: float = Field(default=0.0, ge=0, description="price of a million tokens read")
    price_out: float = Field(default=0.0, ge=0, description="price of a million tokens written")
    token_budget: int = Field(default=8192, ge=16, description="padded tokens per forward pass of a local model")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what leaves nobody to ask, or two."""
        if (self.local is None) == (self.url is None):
            yield "local", "name a model, or a server with --judge.url, and not both"
        if self.url is not None and self.model is None:
            yield "model", "is needed with --judge.url"
        if self.local is not None:
            for name in ("model", "cache", "parallel", "tries", "price_in", "price_out", "key_variable", "max_tokens"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    yield name, "belongs to --judge.url"
        elif self.token_budget != type(self).model_fields["token_budget"].default:
            yield "token_budget", "belongs to --judge.local"


def _none(value: Any) -> Any:
    """Return no names for the word none."""
    return () if value in ("none", ["none"], ("none",)) else value


class FunctionSettings(Settings):
    """Which functions vote."""

    presets: Annotated[tuple[str, ...], BeforeValidator(_none)] = Field(
        default=("general",),
        description="sets of built-in functions: general, or a published one: hh, mt_bench, ultrafeedback_binarized, "
        "ultrafeedback_preferences; none: own ones only",
    )
    functions: tuple[str, ...] = Field(default=(), description="Python files of own labeling functions")
    only: tuple[str, ...] = Field(default=(), description="names of functions to use, of all those there are")
    without: tuple[str, ...] = Field(default=(), description="names of functions to leave out")
    windows: str | None = Field(
        default=None, description="YAML file: function -> least, most, prefers (--explore writes one)"
    )
    patterns: str | None = Field(default=None, description="YAML file of phrases by theme, good and bad, for 'phrases'")
    scorers: tuple[str, ...] = Field(default=(), description="reward models that vote for what they score higher")
    similarity: str | None = Field(
        default=None, description="encoder (Hub id, folder, or minilm) whose cosine of response and prompt votes"
    )
    judge: JudgeAsking | None = Field(default=None, description="a language model that is asked")
    workers: int = Field(default=1, ge=1, description="processes that compute features and votes")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what leaves no function, or would have no effect."""
        if not (self.presets or self.functions or self.scorers or self.similarity or self.judge):
            yield "presets", "none, and no --functions, --scorers, --similarity or --judge either: nothing would vote"
        if self.only and self.without:
            yield "without", "leaves out of what --only names already; use one of them"


class Generation(Settings):
    """Responses for prompts that have none."""

    models: tuple[str, ...] = Field(min_length=1, description="causal models, Hub ids or folders")
    responses: int = Field(default=2, ge=1, description="responses of each model to a prompt")
    max_new_tokens: int = Field(default=256, ge=1, description="longest response")
    temperature: float = Field(default=1.0, ge=0, description="of sampling; 0: the likeliest token, one response")
    top_p: float = Field(default=1.0, gt=0, le=1, description="share of probability that is sampled from")
    token_budget: int = Field(default=16384, ge=16, description="tokens of a batch, prompts and responses")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what could only give one response twice."""
        if self.temperature == 0 and self.responses > 1:
            yield "responses", "are all alike at temperature 0; raise the temperature, or ask for 1 of several models"
        if self.responses == 1 and len(self.models) == 1:
            yield "responses", "must be 2 or more, or --generate.models several: one response cannot be compared"


class LabelSettings(FunctionSettings, RunSettings, ReadingSettings):
    """What is labelled, by what, and where the labels go."""

    data: Annotated[str, Positional] = Field(description="pairs to label: a file, a folder, or a Hub id")
    out: str | None = Field(default=None, description="folder for the labelled records, metrics.json and report.html")
    labels: str | None = Field(
        default=None, description="judgements that teach and calibrate the label model; none: a share of DATA's own"
    )
    calibration_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share of DATA's judged groups that do so, the other judgements being hidden; none: all of them "
        "where unjudged prompts are a tenth as many or more, else 0.1",
    )
    test_share: float = Field(
        default=0.0, ge=0, lt=1, description="share of DATA's judged groups that is written down apart, to test on"
    )
    label_model: Literal["auto", "correlated", "symmetric", "confusion", "logistic", "majority"] = Field(
        default="auto", description="what weighs the votes; auto: correlated with judgements, symmetric (EM) without"
    )
    calibration: Literal["temperature", "isotonic", "none"] = Field(
        default="temperature", description="of the label model, on judgements that did not teach it"
    )
    keep: Keep = Field(default=KeepAll(), description="which labels are written")
    hard: bool = Field(default=False, description="write the likelier side as certain, in place of its probability")
    pairs_of_judged: bool = Field(
        default=False, description="label the pairs of judged prompts that nobody compared, too"
    )
    labels_mapping: ColumnMapping | None = Field(
        default=None, description="columns of --labels, where they are not those of DATA"
    )
    most_pairs: int = Field(default=45, ge=1, description="unjudged pairs of one prompt that are labelled")
    generate: Generation | None = Field(default=None, description="for prompts without responses: sample some first")
    explore: bool = Field(
        default=False, description="rank features against the judgements and propose windows; label nothing"
    )
    resamples: int = Field(default=2000, ge=100, description="bootstrap resamples behind every interval")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict each other, or that would be accepted and then ignored."""
        yield from super().conflicts()
        if self.labels is not None and self.calibration_share is not None:
            yield "calibration_share", "is a share of DATA's own judgements, and --labels names others; choose one"
        if self.labels_mapping is not None and self.labels is None:
            yield "labels_mapping", "says what the columns of --labels are"
        if self.explore:
            for name in ("keep", "hard", "label_model", "calibration"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    yield name, "has no effect with --explore, which labels nothing"
        if self.keep.kind == "risk" and self.calibration == "none" and self.label_model == "majority":
            yield "keep.kind", "risk needs confidences that differ; take another --label-model"
