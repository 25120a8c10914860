"""Scoring several responses to long prompts: assay against a loop over texts sorted by length, on the same token ids.

    python benchmarks/scoring.py --data DATA [--model causal-k4] [--out benchmarks/results/FILE.json]

First the gate: both give the same scores. `ratio` is assay's texts per second over the loop's at its best batch size;
the token bound is what it could be if time went with tokens alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import (
    Journal,
    Stopwatch,
    Window,
    arguments,
    best_size,
    finish,
    in_bf16,
    interleave,
    matrix_rate,
    precision,
    report,
)
from sides import TOKEN_BUDGET, classifier, flops_of, padded_rows, seen
from works import WORKS, Work, work

from assay.training.data import TextSource
from assay.training.records import TrainingRecords

TEXTS_PER_BATCH = (1, 2, 4, 8, 16, 32)
TRIAL_RECORDS = 8


class Ours:
    """assay's scoring call."""

    name = "assay"

    def __init__(self, work: Work, *, bf16: bool) -> None:
        self.model, self.dtype = work.model, torch.bfloat16 if bf16 else None

    def scores(self, portion: Work) -> np.ndarray:
        """Return one score per text."""
        ids = [portion.records.text(text) for text in range(len(portion.records.lengths))]
        return self.model.score_encoded(ids, token_budget=TOKEN_BUDGET, dtype=self.dtype)

    def run(self, portion: Work) -> Window:
        """Score all texts of a portion."""
        watch = Stopwatch()
        count = len(self.scores(portion))
        window = watch.window(count)
        source = TextSource(TrainingRecords(portion.records, portion.pad_id), self.model.row_layout)
        texts = [portion.records.text(text) for text in range(count)]
        rows = np.array([tree.length for tree in source.layout.trees(texts)])
        window.tokens, window.equivalent = int(rows.sum()), int(portion.records.lengths.sum())
        window.padded = source.layout.tokens(rows, source.layout.blocks(rows, TOKEN_BUDGET))
        window.flops = sum(flops_of(portion, source, record, training=False) for record in range(len(portion.data)))
        return window


class Loop:
    """Texts sorted by length, in batches of a fixed number."""

    def __init__(self, work: Work, texts_per_batch: int, *, bf16: bool) -> None:
        self.name = f"loop, {texts_per_batch} texts a batch"
        self.texts_per_batch, self.bf16 = texts_per_batch, bf16
        self.model = classifier(work).eval()

    @torch.inference_mode()
    def scores(self, portion: Work) -> np.ndarray:
        """Return one score per text."""
        lengths = portion.records.lengths
        order, found = np.argsort(-lengths, kind="stable"), np.zeros(len(lengths), np.float32)
        options = {"use_cache": False} if portion.model.config.causal else {}
        for start in range(0, len(order), self.texts_per_batch):
            batch = order[start : start + self.texts_per_batch]
            ids, mask = padded_rows(portion, batch)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
                found[batch] = self.model(input_ids=ids, attention_mask=mask, **options).logits[:, 0].float().numpy()
        return found

    def run(self, portion: Work) -> Window:
        """Score all texts of a portion."""
        watch = Stopwatch()
        count = len(self.scores(portion))
        window = watch.window(count)
        lengths = np.sort(portion.records.lengths)[::-1]
        window.tokens = window.equivalent = int(lengths.sum())
        batches = range(0, len(lengths), self.texts_per_batch)
        window.padded = sum(
            int(lengths[first]) * len(lengths[first : first + self.texts_per_batch]) for first in batches
        )
        window.flops = portion.flops(window.tokens, seen(portion, lengths), training=False)
        return window


def gate(given: Work) -> dict[str, float]:
    """Compare the scores of both sides in float32; raise where they differ."""
    portion = given.portion(np.arange(4))
    difference = np.abs(Ours(given, bf16=False).scores(portion) - Loop(given, 1, bf16=False).scores(portion))
    if difference.max() > 1e-5:
        raise SystemExit(f"the sides do not compute the same, so nothing is measured: {difference.max()}")
    return {"scores": float(difference.max())}


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", choices=list(WORKS), default="causal-k4")
    precision(parser)
    chosen = parser.parse_args()
    bf16 = in_bf16(chosen.precision)
    with tempfile.TemporaryDirectory() as scratch:
        given = work(chosen.model, chosen.data, Path(scratch))
        equivalence = gate(given)
        print(f"equal: {equivalence}", flush=True)
        trial = given.portion(np.random.default_rng(99).permutation(len(given.data))[:TRIAL_RECORDS])
        journal = Journal(chosen.out, f"{given.name}, {'bf16' if bf16 else 'fp32'}, {chosen.seconds} s")
        loop: Any = best_size(lambda size: Loop(given, size, bf16=bf16), TEXTS_PER_BATCH, trial, journal)
        ours = Ours(given, bf16=bf16)
        records = journal.portion(chosen.seconds, lambda: ours.run(trial).seconds / len(trial.data))
        dtype = torch.bfloat16 if bf16 else torch.float32
        roof = lambda: matrix_rate(given.shapes(2048), dtype)  # noqa: E731
        found = interleave([ours, loop], given, chosen.repeats, records, given.portion(np.arange(2)), roof, journal)
    result = report(
        f"scoring {given.name}",
        found,
        ours.name,
        loop.name,
        equivalence,
        "texts per second",
        precision=str(dtype),
        records=records,
        lengths=given.lengths(),
    )
    bound = result["ours"]["sharing_factor"]
    finish(result | {"token_bound": bound, "share_of_token_bound": result["ratio"] / bound}, chosen.out, journal)


if __name__ == "__main__":
    main()
