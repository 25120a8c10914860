"""Judge a reward model on records: margins, baselines beside it, another model against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from assay.console import say
from assay.errors import ConfigError, DataError
from assay.evaluation import (
    BagOfWords,
    Evaluation,
    LengthBaseline,
    Platt,
    RatedEvaluation,
    evaluate,
    evaluate_rated,
    from_stored,
)
from assay.feedback import Pairs, pairs
from assay.scorers import RewardModel
from assay.scorers.encoding import EncodedRecords, encode_records, score_records, scores_in, spread_records
from assay.scorers.features import FeatureCache
from assay.scorers.loading import load_reward_model, load_scorer
from assay.scorers.policy_loading import PolicyOptions, create_policy
from assay.scorers.preference import cyclic_share, native_margins
from assay.scorers.references import FrozenReference
from assay.scorers.uncertainty import Spread
from assay.workflows import hardware
from assay.workflows.data import seen_groups, unseen
from assay.workflows.judge_settings import ClassifierSettings, EvaluateSettings

BASELINES: dict[str, Any] = {"length": LengthBaseline, "bag_of_words": BagOfWords}


def load_models(settings: ClassifierSettings, names: Sequence[str], *, policies: bool = True) -> list[RewardModel]:
    """Load models; what only plain classifiers can be told is refused where all of them know it themselves.

    With ``policies`` these may be scorers too: they have what judging and scoring ask for.

    Raises
    ------
    ModelError
        If one is missing, damaged, or no reward model.
    ConfigError
        If a setting would be ignored.
    """
    options = settings.encoder_options()
    load: Any = load_scorer if policies else load_reward_model
    models: list[RewardModel] = [load(name, **options).to(hardware.best_device()) for name in names]
    for name, model in zip(names, models, strict=True):
        if not model.record.fingerprint and model.encoder.settings.template == "plain" and "template" not in options:
            say(f"{name} does not tell how prompt and response were joined: taken as one text (two: --template pair)")
    if options and models and all(model.record.fingerprint for model in models):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        raise ConfigError(
            f"{flags}: this model was trained by assay and carries its own",
            where=", ".join(names),
            expected="these settings beside a plain sequence classifier only",
            remedy="leave them out",
        )
    return models


def load_judged(settings: EvaluateSettings) -> list[Any]:
    """Load what `assay evaluate` judges, and what it is judged against.

    It is a model, a policy as it was trained, or a policy with the reference that is named.

    Raises
    ------
    ModelError
        As `load_models`, or if one of both is no causal language model.
    """
    others = [settings.against] if settings.against else []
    if settings.reference is None:
        return [*load_models(settings, [settings.model, *others])]
    length = settings.max_length_tokens
    options = {"template": settings.template, "end_token": settings.end_token, "max_length_tokens": length}
    if settings.truncation is not None:
        options["truncation"] = settings.truncation
    policy = create_policy(PolicyOptions(settings.model, beta=settings.beta, **options))  # type: ignore[arg-type]
    policy.reference = FrozenReference(create_policy(PolicyOptions(settings.reference, **options)))  # type: ignore[arg-type]
    return [policy.to(hardware.best_device()).eval(), *load_models(settings, others)]


def leave_out_seen(data: Dataset, models: Sequence[str], include: bool) -> tuple[Dataset, int]:
    """Drop records whose prompt or group trained one of the models, unless they are to stay; say what is not known.

    Raises
    ------
    DataError
        If nothing is left.
    """
    keys = []
    for name in models:
        found = seen_groups(name)
        if found is not None:
            keys.append(found)
        elif not include:
            say(f"{name} does not tell what it was trained on: if it was on these prompts, the figures flatter it")
    if not keys or include:
        return data, 0
    kept, dropped = unseen(data, np.unique(np.concatenate(keys)))
    if len(kept) == 0:
        raise all_seen(dropped)
    if dropped:
        say(f"left out {dropped} of {len(data)} records: their prompts trained the model (--include-seen keeps them)")
    return kept, dropped


def all_seen(count: int) -> DataError:
    """Build the refusal to judge a model on nothing but what trained it."""
    return DataError(
        "every prompt of this data trained the model; judged on it, the model would look better than it is",
        got=f"{count} records, all seen in training",
        remedy="use other data, or --include-seen to do it all the same",
    )


@dataclass(frozen=True)
class Scored:
    """What a model makes of some records.

    Attributes
    ----------
    records
        Encoded.
    values
        Score of each text, ``[texts]``; the mean of several members.
    evidence
        What margins are computed from: the same, or that of native ones (`score_records`).
    counts
        What truncation cut.
    spread
        Of models that tell how sure they are (`assay.scorers.uncertainty`); else None.
    """

    records: EncodedRecords
    values: np.ndarray
    evidence: np.ndarray
    counts: dict[str, int]
    spread: Spread | None = None

    def margins(self, view: Pairs) -> np.ndarray:
        """Return the margins of judgements ``[E]``."""
        return self.records.margins(self.evidence, view)

    def deviations(self, view: Pairs) -> np.ndarray | None:
        """Return the standard deviation of the margins of judgements ``[E]``."""
        if self.spread is None:
            return None
        first = self.records.offsets[view.row]
        return self.spread.of_margins(first + view.a, first + view.b)


def scores_on(model: RewardModel, data: Dataset, token_budget: int = 8192, *, keep_features: bool = False) -> Scored:
    """Score every response in float32.

    ``keep_features`` serves heads on one frozen backbone: its states of these texts are computed once for all of them.
    """
    records = encode_records(data, model.encoder, prompts=model.reads_prompts)
    spread = None
    if keep_features:
        features = FeatureCache(model, token_budget=token_budget).features_of(records)
        if model.is_uncertain:
            values, spread = model.spread_features(features, records.prompt_of)
        else:
            values = model.score_features(features, records.prompt_of, native=True)
    elif model.is_uncertain:
        values, spread = spread_records(model, records, token_budget=token_budget)
    else:
        values = score_records(model, records, token_budget=token_budget)
    evidence, values = values, scores_in(values)
    counts = {
        "texts": int(records.responses.sum()),
        "cut_prompt": records.cut_prompt,
        "cut_response": records.cut_reply,
    }
    return Scored(records, values, evidence, counts, spread)


def margins_on(
    model: RewardModel, data: Dataset, view: Pairs, token_budget: int = 8192, *, keep_features: bool = False
) -> tuple[np.ndarray, dict[str, int]]:
    """Return margins ``[E]`` of the judgements ``view`` of some records, and what truncation cut; see `scores_on`."""
    found = scores_on(model, data, token_budget, keep_features=keep_features)
    return found.margins(view), found.counts


def fit_baselines(train: Dataset, folder: Path | None = None) -> dict[str, LengthBaseline | BagOfWords]:
    """Fit the baselines on the training share, and store them below ``folder``."""
    view = pairs(train)
    fitted = {name: kind().fit(view) for name, kind in BASELINES.items()}
    if folder is not None:
        for name, baseline in fitted.items():
            baseline.save(folder / name)
    return fitted


def stored_baselines(run: Path) -> dict[str, LengthBaseline | BagOfWords]:
    """Load the baselines of a run folder; empty where there are none."""
    folder = run / "baselines"
    return {name: kind.load(folder / name) for name, kind in BASELINES.items() if (folder / name).is_dir()}


def cycles(found: Scored) -> dict[str, Any] | None:
    """Return how often three responses to a prompt are preferred in a circle; None where margins are differences."""
    if found.evidence.ndim < 3:
        return None
    shares, triples = [], []
    for start, end in zip(
        found.records.offsets[:-1], found.records.offsets[1:] - int(found.records.prompts), strict=True
    ):
        k = int(end - start)
        if k < 3:
            continue
        a, b = np.divmod(np.arange(k * k), k)
        margins = native_margins(found.evidence[start + a], found.evidence[start + b]).mean(axis=1)
        shares.append(cyclic_share(margins.reshape(k, k)))
        triples.append(k * (k - 1) * (k - 2) // 6)
    total = int(np.sum(triples))
    return {"triples": total, "cyclic": float(np.average(shares, weights=triples)) if total else None}


def line_of_cycles(found: dict[str, Any]) -> str:
    """Say how often preferences go in a circle."""
    if not found["triples"]:
        return "no prompt has three responses, so no circle of preferences could show"
    return f"{100 * found['cyclic']:.1f} % of {found['triples']:,} triples of responses are preferred in a circle"


@dataclass(frozen=True)
class Judged:
    """A share of the data, and how well a model judges it.

    Attributes
    ----------
    view, delta
        Its judgements, and the model's margins ``[E]`` of them.
    records
        The same encoded.
    evaluation
        None where there is no judgement.
    rated
        How scores go with grades; None where there are none.
    truncation
        What was cut.
    cycles
        Of heads that may prefer in circles: how often they do.
    """

    view: Pairs
    delta: np.ndarray
    records: EncodedRecords
    evaluation: Evaluation | None
    rated: RatedEvaluation | None
    truncation: dict[str, int]
    cycles: dict[str, Any] | None = None


def judge(
    model: RewardModel,
    test: Dataset,
    *,
    baselines: Mapping[str, LengthBaseline | BagOfWords],
    extra: Mapping[str, np.ndarray] | None = None,
    grades: np.ndarray | None = None,
    against: RewardModel | None = None,
    token_budget: int = 8192,
    keep_features: bool = False,
    seed: int = 0,
    resamples: int = 2000,
) -> Judged:
    """Evaluate a model on judgements, and on the grades of single responses.

    Parameters
    ----------
    model, test
        What judges what.
    baselines
        Fitted on other judgements.
    extra
        Margins ``[E]`` of further baselines by name.
    grades
        One per response of ``test``, NaN where there is none; None: only judgements count.
    against
        A second model, on the same judgements.
    token_budget, keep_features
        As for `scores_on`.
    seed, resamples
        Of the bootstrap.
    """
    view = pairs(test)
    found = scores_on(model, test, token_budget, keep_features=keep_features)
    records, values, counts = found.records, found.values, found.counts
    delta = found.margins(view)
    stored = from_stored(model.record.calibration) if model.record.calibration else None
    rated = None
    if grades is not None:
        record = np.repeat(np.arange(len(test)), np.diff(records.offsets))[records.responses]
        group = np.asarray(test["split_group"])[record]
        platt = stored if isinstance(stored, Platt) else None
        rated = evaluate_rated(
            values[records.responses], grades, record, group, platt=platt, seed=seed, resamples=resamples
        )
    if len(view) == 0:
        return Judged(view, delta, records, None, rated, counts, cycles(found))
    others = {name: baseline.delta(view) for name, baseline in baselines.items()}
    others |= extra or {}
    result = evaluate(
        view,
        delta,
        calibration=stored,
        baselines=others,
        other=margins_on(against, test, view, token_budget)[0] if against is not None else None,
        std=found.deviations(view),
        seed=seed,
        resamples=resamples,
    )
    return Judged(view, delta, records, result, rated, counts, cycles(found))
