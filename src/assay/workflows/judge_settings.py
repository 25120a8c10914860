"""Settings of the verbs that check, judge, score, select and export."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from assay.config import Positional, Settings
from assay.evaluation.benchmarks import BENCHMARKS, Benchmark
from assay.scorers.served import is_address
from assay.workflows.feedback_settings import Ensemble
from assay.workflows.run_settings import ReadingSettings, RunSettings


class ClassifierSettings(Settings):
    """What a plain classifier cannot tell about its training."""

    template: str = Field(default="auto", description="for plain classifiers: as in training")
    end_token: str = Field(default="auto", description="for plain classifiers: as in training")
    max_length_tokens: int | None = Field(default=None, ge=8, description="for plain classifiers: as in training")
    truncation: Literal["left", "right"] | None = Field(
        default=None, description="for plain classifiers: as in training; none: left"
    )

    def encoder_options(self) -> dict[str, Any]:
        """Return what was given of it."""
        names = ("template", "end_token", "max_length_tokens", "truncation")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value not in ("auto", None)}


class JudgeSettings(RunSettings, ReadingSettings, ClassifierSettings):
    """What is judged on what."""

    model: Annotated[str, Positional] = Field(
        description="run or model folder, Hub id, or any sequence classifier with one label"
    )
    data: Annotated[str, Positional] = Field(description="judgements: a file, a folder, or a Hub id")
    token_budget: int = Field(default=8192, ge=16, description="padded tokens per forward pass")


class EvaluateSettings(JudgeSettings):
    """Against what, and where the result goes."""

    against: str | None = Field(default=None, description="second model, compared on the same judgements")
    train: str | None = Field(
        default=None, description="training data of the model, to fit the baselines on; none: those stored in its run"
    )
    unlabelled: str | None = Field(
        default=None, description="unjudged pairs of the same kind, for prediction-powered intervals"
    )
    include_seen: bool = Field(default=False, description="also judge on groups that trained the model")
    graded: bool = Field(
        default=False,
        description="judge by grades of single responses, or good/bad labels; needs no pairs",
    )
    good_from: float | None = Field(default=None, description="with --graded: a grade from here on is good")
    resamples: int = Field(default=2000, ge=100, description="bootstrap resamples behind every interval")
    reference: str | None = Field(
        default=None, description="what MODEL, any causal language model, is compared with: the log-ratio is its score"
    )
    beta: float = Field(default=0.1, gt=0, description="with --reference: scale of that score")
    out: str | None = Field(default=None, description="folder for metrics.json and report.html")

    @property
    def benchmark(self) -> Benchmark | None:
        """The public benchmark that ``--format`` names, if it is one."""
        return BENCHMARKS.get(self.format)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that would be accepted and then ignored."""
        if self.reference is None and self.beta != type(self).model_fields["beta"].default:
            yield "beta", "goes with --reference"
        if self.benchmark is not None:
            for name in ("against", "train", "unlabelled", "graded", "mapping", "group", "tokenizer", "include_seen"):
                if getattr(self, name):
                    yield name, f"is not used for a benchmark ({self.format}), which is judged whole"
        elif is_address(self.model):
            yield "model", "is a server's address: that is asked for public benchmarks only (--format rewardbench …)"
        if self.graded:
            for name in ("against", "train", "unlabelled"):
                if getattr(self, name) is not None:
                    yield name, "is compared on pairs, and --graded judges single responses; leave one out"
        elif self.good_from is not None:
            yield "good_from", "belongs to --graded"


class CalibrateSettings(JudgeSettings):
    """Where the calibrated model goes."""

    out: str = Field(description="model folder to make")
    calibration: Literal["temperature", "isotonic"] = Field(
        default="temperature", description="of margins; isotonic: steps, for hundreds of judgements and more"
    )
    check_share: float = Field(
        default=0.5, gt=0, lt=1, description="share of the groups kept aside to check that calibration helps"
    )
    include_seen: bool = Field(default=False, description="also use groups that trained the model")


class ScoreSettings(JudgeSettings):
    """What is written where."""

    out: str | None = Field(default=None, description="JSON Lines file; none: standard output")
    tokens: bool = Field(default=False, description="also the score after each token (causal models)")
    truncated: bool = Field(
        default=False,
        description="with --tokens: score the response cut after each token, one pass for each; for any model",
    )
    html: str | None = Field(default=None, description="with --tokens: page of responses, coloured by token")
    shown: int = Field(default=100, ge=1, description="responses on the page, the first ones")
    explain: bool = Field(default=False, description="also the prototypes that weigh most in each score")
    reduce: Literal["mean", "lcb", "min"] = Field(
        default="mean", description="of uncertain scores; lcb: mean minus b deviations; min: of the members"
    )
    b: float = Field(default=1.0, ge=0, description="deviations that lcb takes off")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that would be accepted and then ignored."""
        if self.reduce != "lcb" and self.b != type(self).model_fields["b"].default:
            yield "b", "belongs to --reduce lcb"
        if not self.tokens:
            for name in ("truncated", "html"):
                if getattr(self, name):
                    yield name, "goes with --tokens"


class SelectSettings(JudgeSettings):
    """How many pairs, and by what."""

    out: str = Field(description="folder to make: pairs.jsonl for annotators, and why each was chosen")
    count: int = Field(default=100, ge=1, description="pairs to judge")
    method: Literal["auto", "bald", "disagreement", "margin", "novelty", "random"] = Field(
        default="auto",
        description="bald: what a judgement would tell of the model; disagreement: deviation of the margin; margin: P "
        "nearest to one half; novelty: far from all prototypes; auto: bald, or margin where nothing tells how sure",
    )
    diverse: bool = Field(default=True, description="of up to five times as many, those that are least alike")
    per_prompt: int = Field(default=1, ge=1, description="pairs of one prompt, at most")
    exclude: str | None = Field(default=None, description="judgements whose prompts are left out")
    include_seen: bool = Field(default=False, description="also choose among prompts that trained the model")


class ExportSettings(RunSettings):
    """What is exported."""

    model: Annotated[str, Positional] = Field(description="run or model folder")
    out: str = Field(description="folder to make: a plain sequence classifier with equal scores")


class CheckSettings(RunSettings, ReadingSettings):
    """What is checked."""

    data: Annotated[str, Positional] = Field(description="feedback: a file, a folder, or a Hub id")
    test: str | None = Field(default=None, description="second data set that must share no group with the first")
    backbone: str = Field(default="minilm", description="whose tokens count for truncation; none: no token counts")
    template: str = Field(default="auto", description="as in training, for the token counts")
    max_length_tokens: int | None = Field(default=None, ge=8, description="longest text; none: the backbone's, <= 1024")
    out: str | None = Field(default=None, description="JSON file to write the report to")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that would be accepted and then ignored."""
        if self.backbone == "none" and (self.max_length_tokens is not None or self.template != "auto"):
            yield "backbone", "none counts no tokens, so --max-length-tokens and --template have no effect"


class StrengthSettings(Ensemble, RunSettings, ReadingSettings):
    """What is doubted, and by whom."""

    data: Annotated[str, Positional] = Field(description="judgements: a file, a folder, or a Hub id")
    backbone: str = Field(default="minilm", description="Hub id, folder, or minilm (packaged, needs no network)")
    template: str = Field(default="auto", description="as in training")
    max_length_tokens: int | None = Field(default=None, ge=8, description="longest text; none: the backbone's, <= 1024")
    truncation: Literal["left", "right"] = Field(default="left", description="side of the prompt that is cut")
    token_budget: int = Field(default=8192, ge=16, description="padded tokens per forward pass")
    epochs: int = Field(default=30, ge=1, description="passes of the heads over the data")
    suspicious: int = Field(default=10, ge=0, description="how many of the weakest judgements are shown")
    out: str | None = Field(default=None, description="folder for metrics.json and all judgements, weakest first")
