"""Training a policy by DPO: assay against TRL's DPOTrainer, on the same token ids.

    python benchmarks/policy_training.py --model causal-39m --data DATA [--out benchmarks/results/FILE.json]

First the gate: on the same weights and judgements, log-probabilities of replies, loss and gradient of assay and TRL
must agree, and a loss at the start must be log 2. Then every side's best settings are looked for, with a reference at
work beside the policy (live) and with what it says computed before (cached), and the best ones take turns on the same
records. `ratio` is assay's judgements per second over TRL's, both with a live reference; `ratio_cached` is that of both
with a cached one.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import (
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
from policy_sides import OurPolicy, TRLPolicy
from reward_training import ROWS_OF_THE_ROOF, fewer, gradient
from sides import TOKEN_BUDGET, Judged
from works import Work, work

from assay.training.data import TextSource

MODELS = ("causal-39m", "causal-39m-150k")
PAIRS_PER_STEP, TRIAL = 16, 32
SIZES = (1, 2, 4, 8, 16)
LIMITS = {"log_two": 1e-5, "log_probabilities": 1e-3, "loss": 1e-5, "one_minus_gradient_cosine": 1e-4, "gradient": 1e-3}


def gate(given: Work, ours: OurPolicy, peer: TRLPolicy) -> dict[str, float]:
    """Compare log-probabilities, loss and gradient of one step, in float32; raise where they differ.

    Both references are the policies as they came, and both policies are moved by the same step from there.
    """
    moved(ours.policy.language_model, 0.01)
    moved(peer.model, 0.01)
    with tempfile.TemporaryDirectory() as folder:
        trainer, theirs = ours.trainer(given, folder), peer.trainer(given, folder)
        source: Any = TextSource(ours.records(given), ours.policy.row_layout)
        records = trainer.plan.steps[0][0][0][:4]
        edges = np.concatenate([Judged(given).of_record[record] for record in records])
        batch = source.batch(records)
        better = torch.from_numpy(
            given.records.pairs.p[edges] >= 0.5
        )  # a tie counts as won by one side, as for the peer
        batch["edges"] = torch.where(better[:, None], batch["edges"], batch["edges"].flip(1))
        batch["target"] = torch.ones(len(edges))
        data = peer.data(given)
        inputs = theirs.data_collator([data[int(edge)] for edge in edges])
        peer.model.zero_grad()
        expected = theirs.compute_loss(peer.model, inputs)
        expected.backward()
        alone = said_alone(peer.model, inputs)
        ours.policy.zero_grad()
        loss = trainer.training_step(ours.policy, {"batches": [batch], "weight": batch["weight"].sum()})
        mine, other = gradient(ours.policy.language_model), gradient(peer.model)
        with torch.no_grad():
            said = ours.policy.likelihoods(batch)[batch["edges"]].T.flatten()
        moved(ours.policy.language_model, -0.01)
        start = trainer.training_step(ours.policy, {"batches": [batch], "weight": batch["weight"].sum()})
    found = {
        "log_two": abs(float(start) - math.log(2)),
        "log_probabilities": float((said - alone).abs().max()),
        "loss": abs(float(loss) - float(expected.detach())),
        "one_minus_gradient_cosine": 1 - float(torch.cosine_similarity(mine, other, dim=0)),
        "gradient": float((mine - other).norm() / other.norm()),
    }
    if any(found[name] > limit for name, limit in LIMITS.items()):
        raise SystemExit(f"the sides do not compute the same, so nothing is measured: {found}")
    return found


@torch.no_grad()
def moved(model: torch.nn.Module, by: float) -> None:
    """Move every weight by a share of a fixed draw."""
    random = torch.Generator().manual_seed(3)
    for _, parameter in sorted(model.named_parameters()):
        parameter.add_(torch.randn(parameter.shape, generator=random), alpha=by * 0.02)


@torch.no_grad()
def said_alone(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the log-probabilities of replies from whole logits, better ones first."""
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
    each = logits.float().log_softmax(-1).gather(2, inputs["input_ids"][:, 1:, None])[..., 0]
    return (each * inputs["completion_mask"][:, 1:]).sum(dim=1)


def best_sides(given: Work, trial: Work, journal: Journal, *, bf16: bool, live: bool) -> tuple[Any, Any]:
    """Return assay and TRL at their best settings, with one kind of reference."""
    common: dict[str, Any] = {"bf16": bf16, "live": live}

    def theirs(size: int, *, by_length: bool = True, compiled: bool = False) -> Any:
        return TRLPolicy(given, PAIRS_PER_STEP, size, by_length=by_length, compiled=compiled, **common)

    peer: Any = best_size(theirs, SIZES, trial, journal)
    others = [theirs(peer.batch_size, by_length=False), theirs(peer.batch_size, compiled=True)]
    ours: list[Any] = [OurPolicy(given, PAIRS_PER_STEP, compiled=compiled, **common) for compiled in (False, True)]
    return fastest(ours, trial, journal), fastest([peer, *others], trial, journal)


def take_steps(ready: Callable[[], None], name: str, data: Path, side: str, options: dict[str, Any]) -> None:
    """Train one side for some steps, in a process of its own; see `reward_training.take_steps`."""
    with tempfile.TemporaryDirectory() as scratch:
        given = work(name, data, Path(scratch))
        made: Any = {"assay": OurPolicy, "TRL": TRLPolicy}[side](given, PAIRS_PER_STEP, **options)
        ready()
        made.trainer(trial_of(given), scratch, epochs=2).train()


def trial_of(given: Work) -> Work:
    """Return the portion that settings are chosen on."""
    return given.portion(np.random.default_rng(99).permutation(len(given.data))[:TRIAL])


def memory(given: Work, data: Path, peer: TRLPolicy, largest: int, *, bf16: bool) -> dict[str, float]:
    """Return the peak memory of both sides in MiB, assay under a budget of what the peer's largest pass has."""
    budget = max(int(given.records.lengths.max()), min(TOKEN_BUDGET, largest))
    common: dict[str, Any] = {"bf16": bf16, "live": peer.live}
    theirs = common | {"batch_size": peer.batch_size, "by_length": peer.by_length}
    used = {
        "ours": peak_memory(take_steps, given.name, data, "assay", common | {"budget": budget}),
        "peer": peak_memory(take_steps, given.name, data, "TRL", theirs),
    }
    return {"tokens_of_the_largest_pass": budget, **{side: round(count / 2**20, 1) for side, count in used.items()}}


def main() -> None:
    """Run one benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", choices=MODELS, default="causal-39m")
    precision(parser)
    chosen = parser.parse_args()
    bf16 = in_bf16(chosen.precision)
    with tempfile.TemporaryDirectory() as scratch:
        given = work(chosen.model, chosen.data, Path(scratch))
        trial = trial_of(given)
        equal = {"bf16": False, "live": True}
        equivalence = gate(
            trial,
            OurPolicy(given, PAIRS_PER_STEP, **equal),
            TRLPolicy(given, PAIRS_PER_STEP, SIZES[0], by_length=True, **equal),
        )
        print(f"equal: {equivalence}", flush=True)
        journal = Journal(chosen.out, f"policies, {given.name}, {'bf16' if bf16 else 'fp32'}, {chosen.seconds} s")
        ours, peer = best_sides(given, trial, journal, bf16=bf16, live=True)
        cached, peer_cached = best_sides(given, trial, journal, bf16=bf16, live=False)
        dtype = torch.bfloat16 if bf16 else torch.float32
        words = ours.policy.whole.get_output_embeddings().weight
        shapes = [*given.shapes(ROWS_OF_THE_ROOF), (ROWS_OF_THE_ROOF // 4, words.shape[1], words.shape[0], 1)]
        paced = given.portion(np.arange(TRIAL))
        records = journal.portion(chosen.seconds, lambda: ours.run(paced).seconds / TRIAL)
        found = interleave(
            [ours, peer, cached, peer_cached],
            given,
            chosen.repeats,
            records,
            trial.portion(np.arange(TRIAL // 4)),
            lambda: matrix_rate(shapes, dtype),
            journal,
        )
        ratios = found.ratios(cached.name, peer_cached.name)
        result = report(
            f"policy_training {given.name}",
            found,
            ours.name,
            peer.name,
            equivalence,
            "judgements per second",
            ratio_cached=statistics.median(ratios),
            ratio_cached_min=min(ratios),
            ratio_cached_max=max(ratios),
            cached={"ours": cached.name, "peer": peer_cached.name},
            precision=str(dtype),
            pairs_per_step=PAIRS_PER_STEP,
            records=records,
            token_bound=fewer(found, ours.name, peer.name, "tokens"),
            token_bound_with_padding=fewer(found, ours.name, peer.name, "padded"),
            lengths=given.lengths(),
        )
        keep(result, chosen.out)
        result["peak_memory_mib"] = memory(given, chosen.data, peer, peer.run(trial).largest, bf16=bf16)
    finish(result, chosen.out, journal)


if __name__ == "__main__":
    main()
