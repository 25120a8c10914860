"""``assay select``: which unlabelled pairs to judge next, as a file for those who judge."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from assay.console import say
from assay.errors import ConfigError, DataError, ModelError
from assay.evaluation.acquisition import binary_entropy, information_gain, spread_out
from assay.feedback import kind_of, read_with_report
from assay.feedback.records import as_chat, prompt_text
from assay.output import as_bytes, check_new, new_folder, write_json
from assay.scorers import RewardModel
from assay.scorers.calibrated import calibrated_probability
from assay.scorers.encoding import EncodedRecords, encode_records, mean_of_members
from assay.scorers.evaluating import evaluating
from assay.scorers.features import FeatureCache
from assay.scorers.prototypes import PrototypeHead
from assay.versions import current_versions
from assay.workflows.judge_settings import SelectSettings
from assay.workflows.judging import leave_out_seen, load_models
from assay.workflows.unjudged import Candidates, candidates

#: Candidates for each pair that is chosen, where pairs are to differ.
POOL = 5


def select(settings: SelectSettings) -> dict[str, Any]:
    """Run `assay select`; return what ``metrics.json`` holds.

    The folder holds ``pairs.jsonl`` (prompt, two responses in random order, an empty ``winner``: ``a``, ``b`` or
    ``tie``, which annotators fill in and every verb reads), ``ranking.jsonl`` (why each was chosen, not for annotators'
    eyes) and ``metrics.json``.

    Raises
    ------
    DataError
        If there are no unjudged pairs.
    ModelError
        If the model cannot do what the method asks for.
    """
    check_new(settings.out, overwrite=settings.overwrite)
    (model,) = load_models(settings, [settings.model], policies=False)
    method = _method(settings, model)
    data, seen = read_unjudged(settings)
    if settings.dry_run:
        return {"dry_run": True, "candidates": len(candidates(data).row), "method": method}
    found = choose(settings, model, data)
    metrics = found.metrics | {"left_out_because_seen": seen}
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        for name, lines in (("pairs.jsonl", found.rows), ("ranking.jsonl", found.reasons)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (folder / name).write_bytes(as_bytes(text))
        write_json(folder / "metrics.json", metrics)
    return metrics


@dataclass(frozen=True)
class Chosen:
    """Pairs to judge, the most worthy first.

    Attributes
    ----------
    rows
        What annotators see: ``id``, the prompt with two responses in random order, an empty ``winner``.
    reasons
        Why each was chosen.
    method
        By what.
    metrics
        How many of how many, how worthy, and what chose them.
    """

    rows: list[dict[str, Any]]
    reasons: list[dict[str, Any]]
    method: str
    metrics: dict[str, Any]


def read_unjudged(settings: SelectSettings) -> tuple[Dataset, int]:
    """Read data with pairs that nobody has judged; return it and how many records were left out as seen in training.

    Raises
    ------
    DataError
        If there are no unjudged pairs.
    """
    data, report = read_with_report(settings.data, **settings.reading() | {"ratings": "responses"})
    say("\n".join(report.lines()))
    data = _without_judged(settings, data)
    data, seen = leave_out_seen(data, [settings.model], settings.include_seen)
    if len(candidates(data).row) == 0:
        raise DataError(
            "there is no pair left to judge",
            where=settings.data,
            expected="prompts with two different responses that nobody has compared",
            got=f"{len(data)} prompts, whose pairs are all judged, or which have one response each",
            remedy="bring more prompts, or sample responses for them: assay label --generate",
        )
    return data, seen


def choose(settings: SelectSettings, model: RewardModel, data: Dataset) -> Chosen:
    """Choose pairs of data that `read_unjudged` read, by what their judgements are worth to a model.

    Raises
    ------
    ModelError
        If the model cannot do what the method asks for.
    """
    method, given = _method(settings, model), candidates(data)
    records = encode_records(data, model.encoder, prompts=model.reads_prompts)
    features = FeatureCache(model, token_budget=settings.token_budget).features_of(records)
    value, told = values_of(model, method, records, features, given, settings.seed)
    first = best_of_prompts(given, value, settings.per_prompt)
    given, value, told = given.take(first), value[first], {name: column[first] for name, column in told.items()}
    diverse = settings.diverse and method != "random"
    count = min(settings.count, len(value))
    order = np.argsort(-value, kind="stable")[:count]
    if diverse:
        a, b = given.texts(records)
        pool = min(POOL * count, len(value) // 2)  # the less worthy half is asked only where all are
        order = spread_out(features[a] - features[b], value, count, pool)
    metrics = {
        "method": method,
        "diverse": diverse,
        "candidates": len(value),
        "selected": len(order),
        "value": {"selected": float(value[order].mean()), "all": float(value.mean())},
        "seed": settings.seed,
        "model": settings.model,
        "versions": current_versions(),
    }
    ranked = {name: column[order] for name, column in {"value": value, **told}.items()}
    return Chosen(*_rows(data, given.take(order), ranked, settings.seed), method, metrics)


def values_of(
    model: RewardModel,
    method: str,
    records: EncodedRecords,
    features: np.ndarray,
    given: Candidates,
    seed: int,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return how much the judgement of each pair is worth, ``[E]``, and what is known of the pairs besides."""
    a, b = given.texts(records)
    evidence = model.score_features(features, records.prompt_of, native=True)
    margins = mean_of_members(records.margins(evidence, given))
    probability = calibrated_probability(margins, model.record.calibration)
    told = {"probability_a": probability}
    deviation = None
    if model.is_uncertain:
        _, spread = model.spread_features(features, records.prompt_of)
        deviation = told["std"] = spread.of_margins(a, b)
    if method == "random":
        return np.random.default_rng(seed).random(len(a)), told
    if method == "margin":
        return binary_entropy(probability), told
    if method == "novelty":
        near = _distance_from_prototypes(model, features)
        return (near[a] + near[b]) / 2, told
    assert deviation is not None  # refused by `_method`
    if method == "disagreement":
        return deviation, told
    return information_gain(margins, deviation, lambda z: calibrated_probability(z, model.record.calibration)), told


def best_of_prompts(given: Candidates, value: np.ndarray, per_prompt: int) -> np.ndarray:
    """Return the indices of the best ``per_prompt`` pairs of each prompt, in the order of the pairs."""
    order = np.lexsort((-value, given.row))
    starts = np.flatnonzero(np.diff(given.row[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return np.sort(order[rank < per_prompt])


def _distance_from_prototypes(model: RewardModel, features: np.ndarray) -> np.ndarray:
    import torch

    head = model.head
    assert isinstance(head, PrototypeHead)
    with evaluating(model):
        found = head.nearest(torch.from_numpy(features).to(head.points.device)).mean(dim=1)
    return np.asarray(found.cpu().numpy())


def _method(settings: SelectSettings, model: RewardModel) -> str:
    """Decide the method, and refuse one that the model cannot serve."""
    prototypes = isinstance(model.head, PrototypeHead) and bool((model.head.counts > 0).all())
    if settings.method == "auto":
        return "bald" if model.is_uncertain else "margin"
    if settings.method in ("bald", "disagreement") and not model.is_uncertain:
        raise ModelError(
            f"--method {settings.method} needs a model that tells how sure it is",
            where=settings.model,
            expected="several members, or a posterior of the last layer",
            got="one head",
            remedy="train with --ensemble.members 5 or --laplace, or use --method margin",
        )
    if settings.method == "novelty" and not prototypes:
        raise ModelError(
            "--method novelty needs prototypes",
            where=settings.model,
            got=f"head {model.config.head}",
            remedy="train with --head prototypes, or use --method margin",
        )
    return settings.method


def _without_judged(settings: SelectSettings, data: Dataset) -> Dataset:
    """Leave out prompts of a file of judgements that were collected since the model was trained."""
    if kind_of(data) != "comparisons":
        raise DataError(
            f"these are {kind_of(data)}, and pairs of responses are to be compared",
            where=settings.data,
            expected="prompts with two responses or more",
        )
    if settings.exclude is None:
        return data
    others, report = read_with_report(settings.exclude, **settings.reading() | {"split": None})
    known = set(others["prompt_id"])
    kept = [row for row, name in enumerate(data["prompt_id"]) if name not in known]
    say(f"left out {len(data) - len(kept)} prompts of {report.source}")
    if not kept:
        raise ConfigError("--exclude leaves nothing to choose from", where=settings.exclude, got=f"{len(data)} prompts")
    return data.select(kept)


def _rows(
    data: Dataset, chosen: Candidates, ranked: dict[str, np.ndarray], seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what annotators see, and why each pair was chosen; the responses of a pair in random order."""
    turned = np.random.default_rng([seed, 1]).random(len(chosen.row)) < 0.5
    several = any(len(as_chat(data[int(row)]["prompt"])) > 1 for row in chosen.row)
    rows, reasons = [], []
    for rank, (row, a, b, turn) in enumerate(
        zip(chosen.row.tolist(), chosen.a.tolist(), chosen.b.tolist(), turned.tolist(), strict=True)
    ):
        record = data[row]
        first, second = (b, a) if turn else (a, b)
        name = f"{record['prompt_id']}.{first}.{second}"
        texts = record["responses"][first], record["responses"][second]
        rows.append({"id": name, **_shown(record["prompt"], *texts, as_dialogue=several), "winner": None})
        why = {key: round(float(column[rank]), 6) for key, column in ranked.items()}
        if turn and "probability_a" in why:
            why["probability_a"] = round(1 - why["probability_a"], 6)
        reasons.append({"id": name, "rank": rank + 1, **why})
    return rows, reasons


def _shown(prompt: Any, a: str, b: str, *, as_dialogue: bool) -> dict[str, Any]:
    if not as_dialogue:
        return {"prompt": prompt_text(prompt), "response_a": a, "response_b": b}
    turns = [dict(turn) for turn in as_chat(prompt)]
    return {
        f"conversation_{side}": [*turns, {"role": "assistant", "content": text}] for side, text in (("a", a), ("b", b))
    }
