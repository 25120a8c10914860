"""Timed portions of work for several sides in turn, the rate of matrix products here, and the line of results."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import torch
import transformers
from works import Work

from assay.output import write_json
from assay.versions import current_versions
from assay.workflows import hardware


@dataclass
class Window:
    """What one side did in one timed portion.

    Attributes
    ----------
    seconds
        From the first batch to the end of the last step; set-up is not in it.
    processor_seconds
        What the process used of the processors meanwhile: less touched by others on the machine.
    items
        Judgements learned from, or texts scored.
    tokens
        Distinct useful tokens computed: no padding, what is shared counted once.
    padded
        Tokens computed, padding included.
    equivalent
        Tokens that the same items have with a row for each text.
    flops
        Work of the useful tokens.
    largest
        Most tokens of one forward and backward pass, padding included.
    """

    seconds: float
    processor_seconds: float = 0.0
    items: int = 0
    tokens: int = 0
    padded: int = 0
    equivalent: int = 0
    flops: float = 0.0
    largest: int = 0

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds

    def rates(self) -> dict[str, float]:
        """Return figures per second, and shares."""
        return {
            "items_per_second": self.rate,
            "useful_tokens_per_second": self.tokens / self.seconds,
            "equivalent_tokens_per_second": self.equivalent / self.seconds,
            "padding_share": 1 - self.tokens / max(self.padded, 1),
            "sharing_factor": self.equivalent / max(self.tokens, 1),
            "flops_per_second": self.flops / self.seconds,
        }


class Stopwatch:
    """Reads both clocks from now on."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def window(self, items: int = 0) -> Window:
        """Return a window of the time since the start."""
        wall, used = self._started
        return Window(time.perf_counter() - wall, time.process_time() - used, items)


class Side(Protocol):
    """One of the things compared."""

    name: str

    def run(self, portion: Work) -> Window:
        """Go through all of a portion once."""
        ...


@dataclass
class Comparison:
    """Windows of all sides, in rounds, and the rate of matrix products before each round."""

    windows: dict[str, list[Window]] = field(default_factory=dict)
    roof: list[float] = field(default_factory=list)

    def ratios(self, ours: str, peer: str) -> list[float]:
        """Return the ratio of rates, round by round."""
        return [a.rate / b.rate for a, b in zip(self.windows[ours], self.windows[peer], strict=True)]

    def processor_ratios(self, ours: str, peer: str) -> list[float]:
        """Return the ratio of items per processor second, round by round."""
        windows = zip(self.windows[ours], self.windows[peer], strict=True)
        return [(a.items / a.processor_seconds) / (b.items / b.processor_seconds) for a, b in windows]

    def median(self, side: str) -> dict[str, float]:
        """Return the median of every rate of a side, and the tenth and ninetieth percentile of the first."""
        rates = [window.rates() for window in self.windows[side]]
        found = {name: statistics.median(rate[name] for rate in rates) for name in rates[0]}
        low, high = np.quantile([window.rate for window in self.windows[side]], [0.1, 0.9])
        return {**found, "p10": float(low), "p90": float(high)}


class Journal:
    """What was measured so far, kept beside the result, so that an interrupted benchmark goes on where it was.

    Parameters
    ----------
    out
        The result file; None: nothing is kept.
    of
        What is measured; a journal of anything else, or of other versions, is not gone on with.
    """

    def __init__(self, out: Path | None, of: str) -> None:
        self.path = out.with_suffix(".partial.json") if out is not None else None
        self.identity = {"of": of, "versions": current_versions(), "hardware": hardware.describe()}
        self.trials: dict[str, float] = {}
        self.rounds: list[dict[str, Any]] = []
        self.records = 0
        if self.path is not None and self.path.exists():
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["identity"] == self.identity:
                self.trials, self.rounds, self.records = kept["trials"], kept["rounds"], kept["records"]
                print(f"going on after {len(self.trials)} trials and {len(self.rounds)} rounds", flush=True)

    def save(self) -> None:
        """Write it."""
        keep(
            {"identity": self.identity, "trials": self.trials, "rounds": self.rounds, "records": self.records},
            self.path,
        )

    def portion(self, seconds: float, pace: Callable[[], float]) -> int:
        """Return how many records a timed portion has, from the seconds that one takes: the same in every round.

        The faster of two counts: the first run meets memory that was never touched, and would make portions short.
        """
        self.records = self.records or int(np.ceil(seconds / min(pace(), pace())))
        return self.records

    def end(self) -> None:
        """Remove it, once the result is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def best_size(make: Callable[[int], Side], sizes: Sequence[int], portion: Work, journal: Journal) -> Side:
    """Return a side at the size of a batch that is fastest, trying larger ones until two are no better."""
    found: list[tuple[float, Side]] = []
    for size in sizes:
        side = make(size)
        found.append((rate_of(side, portion, journal), side))
        best = max(range(len(found)), key=lambda index: found[index][0])
        if len(found) - 1 - best == 2:
            break
    return found[best][1]


def rate_of(side: Side, portion: Work, journal: Journal) -> float:
    """Return the better of two runs, after one that warms up: others on the machine only ever slow a side down."""
    if side.name in journal.trials:
        return journal.trials[side.name]
    # what compiles must have met every kind of shape
    side.run(portion if getattr(side, "compiled", False) else portion.portion(np.arange(1)))
    rate = max(side.run(portion).rate for _ in range(2))
    print(f"trial  {side.name:48} {rate:8.2f} per second", flush=True)
    journal.trials[side.name] = rate
    journal.save()
    return rate


def fastest(sides: Sequence[Side], portion: Work, journal: Journal) -> Side:
    """Return the fastest of some settings of one side."""
    return max(sides, key=lambda side: rate_of(side, portion, journal))


def interleave(
    sides: Sequence[Side],
    work: Work,
    repeats: int,
    records: int,
    before: Work,
    roof: Callable[[], float],
    journal: Journal,
) -> Comparison:
    """Give all sides the same portions in turn, the order turned round in every other round.

    So a drift of the machine cancels, and what a draw of records makes easy or hard it makes so for every side.

    Parameters
    ----------
    repeats
        Rounds, each with records of its own.
    records
        Records of a portion.
    before
        The portion that is gone through untimed, before each timed one. A side that compiles goes through the timed one
        instead: every portion has lengths of its own, and compiling for them is done once in a training.
    roof
        Measures the rate of matrix products.
    journal
        Rounds that were measured before are not measured again.
    """
    names = [side.name for side in sides]
    assert len(set(names)) == len(names), "two sides have one name"
    if any(set(done["windows"]) != set(names) for done in journal.rounds):
        journal.rounds = []
    for number in range(len(journal.rounds), repeats):
        portion = work.portion(np.resize(np.random.default_rng(number).permutation(len(work.data)), records))
        done: dict[str, Any] = {"roof": roof(), "windows": {}}
        for side in sides if number % 2 == 0 else sides[::-1]:
            side.run(portion if getattr(side, "compiled", False) else before)
            window = side.run(portion)
            done["windows"][side.name] = asdict(window)
            print(
                f"round {number + 1} of {repeats}  {side.name:48} {window.rate:8.2f} per second"
                f"  ({window.seconds:.0f} s)",
                flush=True,
            )
        journal.rounds.append(done)
        journal.save()
    windows = {name: [Window(**done["windows"][name]) for done in journal.rounds[:repeats]] for name in names}
    return Comparison(windows, [done["roof"] for done in journal.rounds[:repeats]])


def matrix_rate(shapes: Sequence[tuple[int, int, int, int]], dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Return FLOP/s of products of a model's own shapes: (rows, inner, columns, how often), as often as they occur."""
    made = [
        (torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype), 2.0 * m * k * n, count)
        for m, k, n, count in shapes
    ]
    for left, right, _, _ in made:
        torch.nn.functional.linear(left, right)
    work, elapsed = 0.0, 0.0
    while elapsed < seconds:
        for left, right, flops, count in made:
            start = time.perf_counter()
            for _ in range(count):
                torch.nn.functional.linear(left, right)
            elapsed += time.perf_counter() - start
            work += flops * count
    return work / elapsed


def peak_memory(task: Callable[..., None], *given: Any) -> int:
    """Return how many bytes a task needs at most beyond what its process held before; it runs in a new process.

    ``task(ready, *given)`` prepares, calls ``ready()``, and works.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_watched, args=(sender, task, given))
    child.start()
    sender.close()
    try:
        return int(receiver.recv())
    except EOFError as error:
        raise SystemExit(f"{task.__name__} failed in its process") from error
    finally:
        child.join()


def _watched(sender: Any, task: Callable[..., None], given: tuple[Any, ...]) -> None:
    before: list[int] = []

    def ready() -> None:
        # the highest mark so far belongs to preparing
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before.append(resident("VmRSS"))

    task(ready, *given)
    sender.send(resident("VmHWM") - before[0])


def resident(entry: str) -> int:
    """Return bytes of this process: held (``VmRSS``), held at most (``VmHWM``), or in no file (``RssAnon``)."""
    for line in Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) * 1024
    raise SystemExit("peak memory is read from /proc, which this system does not have")


class Watch:
    """Looks every 20 ms how much memory is the process's own, from now on."""

    def __init__(self) -> None:
        self.before = self.most = resident("RssAnon")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            self.most = max(self.most, resident("RssAnon"))

    def stop(self) -> int:
        """Return the most bytes seen beyond those of the beginning."""
        self._ended.set()
        self._thread.join()
        return self.most - self.before


def report(
    name: str, found: Comparison, ours: str, peer: str, equivalence: dict[str, float], unit: str, **more: Any
) -> dict[str, Any]:
    """Return the result of a benchmark."""
    ratios = found.ratios(ours, peer)
    roof = statistics.median(found.roof)
    medians = {side: found.median(side) for side in found.windows}
    for rates in medians.values():
        rates["share_of_matrix_rate"] = rates["flops_per_second"] / roof
    others = [side for side in found.windows if side not in (ours, peer)]
    return {
        "name": name,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "ours": {"settings": ours, **medians[ours]},
        "peer": {"settings": peer, **medians[peer]},
        "unit": unit,
        "equivalence": equivalence,
        "repeats": len(ratios),
        "processor_time_ratio": statistics.median(found.processor_ratios(ours, peer)),
        "matrix_gflops_per_second": roof / 1e9,
        "hardware": hardware.describe(),
        "versions": current_versions(),
        "others": {side: statistics.median(found.ratios(ours, side)) for side in others},
        "other_sides": {side: medians[side] for side in others},
        "windows": {side: [asdict(window) for window in many] for side, many in found.windows.items()},
        **more,
    }


def keep(result: dict[str, Any], out: Path | None) -> None:
    """Write the result file."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result)


def finish(result: dict[str, Any], out: Path | None, journal: Journal | None = None) -> None:
    """Write the result file, and print the result as the last line."""
    keep(result, out)
    if journal is not None:
        journal.end()
    print(json.dumps({key: value for key, value in result.items() if key != "windows"}))


def arguments(description: str) -> argparse.ArgumentParser:
    """Return the options that every benchmark takes."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--seconds", type=float, default=20.0, help="least length of a timed portion, about")
    parser.add_argument("--out", type=Path, help="result file")
    return parser


def precision(parser: argparse.ArgumentParser) -> None:
    """Add the option of the precision."""
    parser.add_argument(
        "--precision",
        choices=["auto", "bf16", "fp32"],
        default="auto",
        help="auto: bf16 where processors multiply in it",
    )


def in_bf16(chosen: str) -> bool:
    """Tell whether all sides compute in bf16."""
    return chosen == "bf16" or (chosen == "auto" and hardware.multiplies_in_bf16())
