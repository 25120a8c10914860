"""How cost grows: with the number of pairs (time before training, memory), and with the responses of a prompt.

    python benchmarks/growth.py --data DATA --speed benchmarks/results/reward_training_causal-39m.json [--out FILE.json]

Each size runs in a process of its own: pairs are read, tokenised (nothing is cached) and planned, and three steps are
taken. `share_of_epoch` is tokenising and planning over one epoch at the speed that the other benchmark measured.
`ratio` is 3 % of that epoch over the time of tokenising and planning all pairs: above 1, they cost less than 3 %.
Memory is what is the process's own; pages of files that are only mapped can be taken back at any time.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from harness import Watch, Window, arguments, finish
from sides import Ours
from works import causal_39m, harmless, summaries, work_of

from assay.feedback import read
from assay.scorers import create_reward_model
from assay.scorers.encoding import encode_records
from assay.training import PreferenceArguments, PreferenceTrainer
from assay.training.data import TextSource
from assay.training.plan import plan_batches
from assay.training.records import TrainingRecords
from assay.versions import current_versions
from assay.workflows import hardware

PAIRS = (1_000, 10_000, 100_000)
RESPONSES = (2, 4, 8)
STEPS = 3
#: Documents of a portion with k responses: about the same number of tokens each.
DOCUMENTS = {2: 12, 4: 9, 8: 6}


def write_pairs(data: Path, count: int, path: Path) -> None:
    """Write pairs of the harmless set over and over, each time with another first word."""
    rows = harmless(data)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = rows[number % len(rows)]
            turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["prompt"]]
            turns[0]["content"] = f"{number // len(rows)} {turns[0]['content']}"
            pair = {"prompt": turns}
            for name, text in zip(("chosen", "rejected"), row["responses"], strict=False):
                pair[name] = [{"role": "assistant", "content": text}]
            file.write(json.dumps(pair) + "\n")


def start(sender: Any, pairs: Path, cache: str) -> None:
    """Read, tokenise and plan pairs, and take some steps; send seconds and peak memory."""
    datasets.config.HF_DATASETS_CACHE = cache
    datasets.disable_progress_bars()
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name] = time.perf_counter() - clock
        clock = time.perf_counter()

    with tempfile.TemporaryDirectory() as scratch:
        options, _ = causal_39m(Path(scratch) / "backbone")
        model = create_reward_model(options)
        _ = model.row_layout
        watch = Watch()
        clock = time.perf_counter()
        data = read(str(pairs))
        lap("read")
        records = encode_records(data, model.encoder)
        lap("tokenise")
        source = TextSource(TrainingRecords(records, model.encoder.pad_id), model.row_layout, 8192)
        plan_batches(
            source.sizes(), epochs=1, pairs_per_step=16, token_budget=8192, seed=0, world_size=1, layout=source.layout
        )
        lap("plan")
        args = PreferenceArguments(
            output_dir=f"{scratch}/run", num_train_epochs=1, max_steps=STEPS, learning_rate=1e-5, use_cpu=True,
            save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        PreferenceTrainer(model, args, source.data).train()
        lap("steps")
    sender.send({"pairs": len(records.pairs), "seconds": seconds, "peak_mib": watch.stop() / 2**20})


def sizes(data: Path) -> list[dict[str, Any]]:
    """Measure starting at each size."""
    context, found = multiprocessing.get_context("spawn"), []
    for count in PAIRS:
        with tempfile.TemporaryDirectory() as cache:
            path = Path(cache) / "pairs.jsonl"
            write_pairs(data, count, path)
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=start, args=(sender, path, cache))
            child.start()
            sender.close()
            found.append(receiver.recv())
            child.join()
        print(found[-1], flush=True)
    return found


def responses(data: Path, repeats: int) -> list[dict[str, Any]]:
    """Measure training with k summaries of a document, the numbers in turn."""
    windows: dict[int, list[Window]] = {count: [] for count in RESPONSES}
    with tempfile.TemporaryDirectory() as scratch:
        options, shape = causal_39m(Path(scratch) / "backbone")
        works = {count: work_of(f"k = {count}", options, shape, summaries(data, count)) for count in RESPONSES}
        sides = {count: Ours(given, 16, bf16=hardware.multiplies_in_bf16()) for count, given in works.items()}
        for number in range(repeats):
            draw = np.random.default_rng(number).permutation(len(works[RESPONSES[0]].data))
            for count in RESPONSES:
                sides[count].run(works[count].portion(draw[-1:]))
                window = sides[count].run(works[count].portion(draw[: DOCUMENTS[count]]))
                windows[count].append(window)
                print(f"round {number + 1} of {repeats}  k = {count}  {window.rate:8.2f} per second", flush=True)
    found = []
    for count, many in windows.items():
        rates = [window.rates() for window in many]
        medians = {name: float(np.median([rate[name] for rate in rates])) for name in rates[0]}
        seconds = np.median([window.seconds for window in many]) / DOCUMENTS[count]
        found.append({"responses": count, "seconds_per_document": float(seconds), **medians})
    return found


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--speed", type=Path, required=True, help="result of reward_training.py --model causal-39m")
    chosen = parser.parse_args()
    speed = json.loads(chosen.speed.read_text(encoding="utf-8"))
    by_responses = responses(chosen.data, chosen.repeats)
    by_pairs = sizes(chosen.data)
    for size in by_pairs:
        epoch = size["pairs"] / speed["ours"]["items_per_second"]
        size["share_of_epoch"] = (size["seconds"]["tokenise"] + size["seconds"]["plan"]) / epoch
    last = by_pairs[-1]
    ratio = 0.03 / last["share_of_epoch"]
    starting = (last["seconds"]["tokenise"] + last["seconds"]["plan"]) / last["pairs"]
    finish(
        {
            "name": "growth",
            "ratio": ratio,
            "ratio_min": ratio,
            "ratio_max": ratio,
            "ours": {"seconds_per_pair": starting},
            "peer": {"seconds_per_pair": 0.03 / speed["ours"]["items_per_second"]},
            "unit": "3 % of an epoch over the time of tokenising and planning it",
            "equivalence": {},
            "repeats": 1,
            "hardware": hardware.describe(),
            "versions": current_versions(),
            "others": {},
            "by_pairs": by_pairs,
            "by_responses": by_responses,
        },
        chosen.out,
    )


if __name__ == "__main__":
    main()
