"""Training a reward model: assay against TRL's RewardTrainer and a plain deduplicated loop, on the same token ids.

    python benchmarks/reward_training.py --model causal-39m --data DATA [--out benchmarks/results/FILE.json]

First the gate: on the same weights and judgements, scores, loss and gradient of assay and TRL must agree. Then every
side's best settings are looked for, and the best ones take turns on the same records. `ratio` is assay's judgements per
second over TRL's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import (
    Comparison,
    Journal,
    arguments,
    best_size,
    fastest,
    finish,
    in_bf16,
    interleave,
    keep,
    matrix_rate,
    peak_memory,
    precision,
    report,
)
from sides import TOKEN_BUDGET, TRL, Judged, Loop, Ours
from works import WORKS, Work, summaries, work

from assay.training.data import TextSource
from assay.training.records import TrainingRecords

ROWS_OF_THE_ROOF = 2048


@dataclass(frozen=True)
class Setup:
    """How a work is measured.

    Attributes
    ----------
    pairs_per_step
        Judgements per optimiser step. Records stay whole, so a step of summaries holds all pairs of a document.
    trial
        Records of the portions that choose settings; of summaries, four to a document, which are as long.
    """

    pairs_per_step: int
    trial: int


SETUPS = {
    "causal-39m": Setup(16, 32),
    "causal-k4": Setup(12, 2),
    "minilm": Setup(32, 64),
    "minilm-k16": Setup(112, 4),
}
SIZES = (1, 2, 4, 8, 16, 32)


def gate(given: Work, ours: Ours, peer: TRL) -> dict[str, float]:
    """Compare scores, loss and gradient of one step, in float32; raise where they differ."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = ours.trainer(given, folder)
        theirs = peer.trainer(given, folder)
        source: Any = TextSource(TrainingRecords(given.records, given.pad_id), given.model.row_layout)
        records = trainer.plan.steps[0][0][0][:4]
        edges = np.concatenate([Judged(given).of_record[record] for record in records])
        data = peer.data(given)
        batch = theirs.data_collator([data[int(edge)] for edge in edges])
        peer.model.zero_grad()
        peer.model.train()
        expected = theirs.compute_loss(peer.model, batch)
        expected.backward()
        expected = expected.detach()
        given.model.zero_grad()
        batch = source.batch(records)
        # a tie counts as won by one side, as for the peer
        better = torch.from_numpy(given.records.pairs.p[edges] >= 0.5)
        batch["edges"] = torch.where(better[:, None], batch["edges"], batch["edges"].flip(1))
        batch["target"] = torch.ones(len(edges))
        loss = trainer.training_step(given.model, {"batches": [batch], "weight": batch["weight"].sum()})
    if given.model.config.layout == "native":
        mine, other = gradient(given.model.backbone), gradient(peer.model)
    else:
        mine = torch.cat([gradient(given.model.backbone), gradient(given.model.head)])
        other = torch.cat([gradient(peer.model.base_model), gradient(peer.model.score)])
    texts = np.unique(Judged(given).texts[edges])
    with torch.inference_mode():
        alone = [peer.model(input_ids=torch.from_numpy(given.records.text(t).astype(np.int64))[None]) for t in texts]
    scores = given.model.score_encoded([given.records.text(text) for text in texts])
    found = {
        "scores": float(np.abs(scores - [float(output.logits[0, 0]) for output in alone]).max()),
        "loss": abs(float(loss) - float(expected)),
        "one_minus_gradient_cosine": 1 - float(torch.cosine_similarity(mine, other, dim=0)),
        "gradient": float((mine - other).norm() / other.norm()),
    }
    limits = {"scores": 1e-5, "loss": 1e-5, "one_minus_gradient_cosine": 1e-4, "gradient": 1e-3}
    if any(found[name] > limit for name, limit in limits.items()):
        raise SystemExit(f"the sides do not compute the same, so nothing is measured: {found}")
    return found


def gradient(module: torch.nn.Module) -> torch.Tensor:
    """Return the gradient of all parameters end to end, by name, in float64."""
    return torch.cat([p.grad.flatten().double() for _, p in sorted(module.named_parameters()) if p.grad is not None])


def portion_of(given: Work, setup: Setup, data: Path) -> Work:
    """Return the portion that settings are chosen on."""
    trial = given.on(summaries(data, 4)) if given.name == "minilm-k16" else given
    return trial.portion(np.random.default_rng(99).permutation(len(trial.data))[: setup.trial])


def best_sides(given: Work, trial: Work, setup: Setup, journal: Journal, *, bf16: bool) -> tuple[Ours, Any, Any]:
    """Return assay, TRL and the loop at their best settings."""
    pairs = setup.pairs_per_step
    peer: Any = best_size(lambda size: TRL(given, pairs, size, bf16=bf16, by_length=True), SIZES, trial, journal)
    size = peer.batch_size
    random = TRL(given, pairs, size, bf16=bf16, by_length=False)
    compiled = TRL(given, pairs, size, bf16=bf16, by_length=True, compiled=True)
    peer = fastest([peer, random, compiled], trial, journal)
    loop = best_size(lambda size: Loop(given, pairs, size, bf16=bf16), SIZES, trial, journal)
    ours = [Ours(given, pairs, bf16=bf16), Ours(given, pairs, bf16=bf16, compiled=True)]
    return fastest(ours, trial, journal), peer, loop  # type: ignore[return-value]


def take_steps(ready: Callable[[], None], name: str, data: Path, side: str, options: dict[str, Any]) -> None:
    """Train one side for some steps, in a process of its own.

    Twice over the portion: whoever takes the longest texts first does so before the optimiser has its state.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given = work(name, data, Path(scratch))
        setup = SETUPS[name]
        portion = portion_of(given, setup, data)
        made: Any = {"assay": Ours, "TRL": TRL}[side](given, setup.pairs_per_step, **options)
        ready()
        made.trainer(portion, scratch, epochs=2).train()


def memory(given: Work, data: Path, peer: TRL, largest: int, *, bf16: bool) -> dict[str, float]:
    """Return the peak memory of both sides in MiB, assay under a budget of what the peer's largest pass has."""
    budget = max(int(given.records.lengths.max()), min(TOKEN_BUDGET, largest))
    theirs = {"bf16": bf16, "batch_size": peer.batch_size, "by_length": peer.by_length, "compiled": False}
    used = {
        "ours": peak_memory(take_steps, given.name, data, "assay", {"bf16": bf16, "budget": budget}),
        "peer": peak_memory(take_steps, given.name, data, "TRL", theirs),
    }
    return {"tokens_of_the_largest_pass": budget, **{side: round(count / 2**20, 1) for side, count in used.items()}}


def main() -> None:
    """Run one benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", choices=list(WORKS), required=True)
    precision(parser)
    chosen = parser.parse_args()
    bf16 = in_bf16(chosen.precision)
    with tempfile.TemporaryDirectory() as scratch:
        given = work(chosen.model, chosen.data, Path(scratch))
        setup = SETUPS[given.name]
        trial = portion_of(given, setup, chosen.data)
        equivalence = gate(
            trial,
            Ours(given, setup.pairs_per_step, bf16=False),
            TRL(given, setup.pairs_per_step, SIZES[0], bf16=False, by_length=True),
        )
        print(f"equal: {equivalence}", flush=True)
        journal = Journal(chosen.out, f"{given.name}, {'bf16' if bf16 else 'fp32'}, {chosen.seconds} s")
        ours, peer, loop = best_sides(given, trial, setup, journal, bf16=bf16)
        # what someone gets who changes nothing but the step
        usual = TRL(given, setup.pairs_per_step, 8, bf16=bf16, by_length=False)
        more = [usual] if given.name in ("causal-39m", "minilm") and usual.name != peer.name else []
        dtype = torch.bfloat16 if bf16 else torch.float32
        roof = lambda: matrix_rate(given.shapes(ROWS_OF_THE_ROOF), dtype)  # noqa: E731
        before = trial.portion(np.arange(max(1, setup.trial // 4)))
        paced = given.portion(np.arange(setup.trial))
        records = journal.portion(chosen.seconds, lambda: ours.run(paced).seconds / setup.trial)
        found = interleave([ours, peer, loop, *more], given, chosen.repeats, records, before, roof, journal)
        result = report(
            f"reward_training {given.name}",
            found,
            ours.name,
            peer.name,
            equivalence,
            "judgements per second",
            precision=str(dtype),
            pairs_per_step=setup.pairs_per_step,
            records=records,
            token_bound=fewer(found, ours.name, peer.name, "tokens"),
            token_bound_with_padding=fewer(found, ours.name, peer.name, "padded"),
            lengths=given.lengths(),
        )
        keep(result, chosen.out)
        result["peak_memory_mib"] = memory(given, chosen.data, peer, peer.run(trial).largest, bf16=bf16)
    finish(result, chosen.out, journal)


def fewer(found: Comparison, ours: str, peer: str, name: str) -> float:
    """Return how many times fewer tokens assay computes than the peer: ``tokens``, or with padding ``padded``."""
    windows = zip(found.windows[ours], found.windows[peer], strict=True)
    return float(np.median([getattr(b, name) / getattr(a, name) for a, b in windows]))


if __name__ == "__main__":
    main()
