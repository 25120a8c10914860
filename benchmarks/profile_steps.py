"""Where the time of a training step goes, by kind of operation (torch profiler), for assay as it is.

    python benchmarks/profile_steps.py --model causal-39m --data DATA [--out benchmarks/results/profile_causal-39m.json]

This compares nothing: its last line is no ratio. `share` is of the processor time of all operations of the steps.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from harness import arguments, in_bf16, keep, precision
from reward_training import SETUPS, portion_of
from sides import Ours
from works import WORKS, work

from assay.versions import current_versions
from assay.workflows import hardware

#: Kind of operation -> what the profiler's names of it contain.
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "mkldnn"),
    "attention": ("attention",),
    "optimiser": ("_fused_adam", "_foreach", "linalg_vector_norm"),
    "gathering and filling": (
        "aten::index",
        "aten::embedding",
        "aten::copy_",
        "aten::fill_",
        "aten::zero",
        "aten::cat",
    ),
}


def kind_of(name: str) -> str:
    """Return the kind of an operation."""
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "everything else")


def main() -> None:
    """Profile the steps of a trial portion."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", choices=list(WORKS), required=True)
    parser.add_argument("--compile", action="store_true", help="with compiled layers")
    precision(parser)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        given = work(chosen.model, chosen.data, Path(scratch))
        setup = SETUPS[given.name]
        trial = portion_of(given, setup, chosen.data)
        side = Ours(given, setup.pairs_per_step, bf16=in_bf16(chosen.precision), compiled=chosen.compile)
        side.run(trial)
        with torch.profiler.profile() as profiler:
            side.run(trial)
    shares: dict[str, float] = defaultdict(float)
    events: Any = profiler.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)
    for event in events:
        shares[kind_of(event.key)] += event.self_cpu_time_total / whole
    largest = sorted(events, key=lambda event: -event.self_cpu_time_total)[:12]
    result = {
        "name": f"profile {given.name}" + (" compiled" if chosen.compile else ""),
        "share": dict(sorted(shares.items(), key=lambda item: -item[1])),
        "largest": {event.key: event.self_cpu_time_total / whole for event in largest},
        "hardware": hardware.describe(),
        "versions": current_versions(),
    }
    keep(result, chosen.out)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
