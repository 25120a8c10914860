"""Synthetic judgements: texts drawn from a small vocabulary, labels drawn from Bradley-Terry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from assay.evaluation import DataRow, LengthBaseline, Mistake, ReportContent, evaluate, fit_temperature, mistakes
from assay.feedback.pairs import Pairs, pairs
from assay.feedback.records import comparison, edge, from_rows, message

Drawn = tuple[Pairs, np.ndarray]
_WORDS = [f"word{k}" for k in range(60)]


def _draw(records: int = 200, judgements: int = 2, seed: int = 0, scale: float = 1.0, ties: int = 0) -> Drawn:
    rng = np.random.default_rng(seed)
    worth = np.linspace(-1, 1, len(_WORDS)) * scale
    rows: list[dict[str, Any]] = []
    deltas: list[float] = []
    for number in range(records):
        words = [rng.integers(0, len(_WORDS), rng.integers(3, 30)) for _ in range(2)]
        delta = float(worth[words[0]].sum() - worth[words[1]].sum())
        edges = []
        for _ in range(judgements):
            p = 0.5 if len(deltas) < ties else float(rng.random() < expit(delta))
            edges.append(edge(0, 1, p, source="person" if rng.random() < 0.7 else "rule"))
            deltas.append(delta)
        texts = [" ".join(_WORDS[k] for k in drawn) for drawn in words]
        rows.append(comparison(f"prompt {number}", texts, edges, split_group=f"group {number // 2}"))
    return pairs(from_rows(rows)), np.array(deltas)


@pytest.fixture(scope="session")
def draw() -> Callable[..., Drawn]:
    """Draw (pairs, the margins that the labels were drawn from)."""
    return _draw


def _full_content(data: Pairs, delta: np.ndarray) -> ReportContent:
    """Fill every section; one mistake holds markup, template syntax, a long text and many line breaks."""
    rng = np.random.default_rng(0)
    delta = 2 * delta + rng.normal(0, 2, len(delta))
    temperature = fit_temperature(delta, data.p)
    length = LengthBaseline().fit(data).delta(data)
    found = evaluate(
        data,
        delta,
        calibration=temperature,
        baselines={"length": length, "bag_of_words": delta * 0.3 + rng.normal(size=len(delta))},
        other=length,
        resamples=200,
    )
    nasty = Mistake(
        prompt=[message("user", "earlier"), message("assistant", "turn"), message("user", "<b>bold</b> {{ 7 * 7 }}")],
        better="x" * 3000,
        worse="up" + "\n" * 9 + "down",
        margin=9.0,
        probability=0.99,
        target=0.8,
        source="person",
        row=3,
    )
    return ReportContent(
        title="A synthetic model",
        sentence="A made-up scorer, judged on made-up judgements.",
        other_name="the length rule",
        evaluation=found,
        data_rows=[DataRow("judgements", 900, len(data)), DataRow("duplicates", 3, None, "kept", "warning")],
        train_loss=[(step, 0.7 * 0.99**step) for step in range(60)],
        validation_loss=[(0, 0.69), (30, 0.6), (60, 0.62)],
        mistakes=[nasty, *mistakes(data, delta, 3, calibration=temperature)],
        throughput={"pairs_per_second": 31.4, "tokens_per_second": 8231.0},
        config={"train": {"learning_rate": 2e-5}, "seed": 0},
        versions={"assay": "0.1.0"},
        notes=["12 % of the prompts were cut."],
        created="2026-01-02 03:04",
    )


@pytest.fixture(scope="session")
def full_content() -> ReportContent:
    """A report with every section; 295 of its 300 judgements take a side."""
    return _full_content(*_draw(150, ties=5))
