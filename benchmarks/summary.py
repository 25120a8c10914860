"""Write benchmarks/results/summary.md from the result files beside it.

python benchmarks/summary.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
#: Work -> what was aimed at: times the rate of the peer and of the deduplicated loop, share of the matrix rate.
TARGETS: dict[str, dict[str, float]] = {
    "reward_training causal-39m": {"peer": 4.0, "matrix": 0.5},
    "reward_training causal-k4": {"peer": 7.0, "loop": 2.0},
    "reward_training minilm": {"peer": 2.0},
    "reward_training minilm-k16": {"peer": 8.0},
    "policy_training causal-39m": {"peer": 6.0, "cached": 5.0},
    "policy_training causal-39m-150k": {"peer": 6.0, "cached": 5.0},
    "scoring causal-k4": {"bound": 0.75},
}
#: Steps of online RL per second, over TRL.
ONLINE = 2.0
#: Serving: share of the offline rate, and times the rate of a plain server.
SERVED = {"offline": 0.8, "distinct prompts": 1.3, "eight candidates": 3.0}
#: Weighing votes: seconds at most, microseconds a vote at most, and times as fast as snorkel's applier.
WEIGHING = {"seconds": 0.2, "per_vote": 0.1, "applier": 100.0}
WHAT = {
    "reward_training causal-39m": "39M Llama-shaped, all weights, pairs of harmless-base",
    "reward_training causal-k4": "the same, four answers to a question with passages (fine_grained_rlhf)",
    "reward_training minilm": "MiniLM, all weights, pairs of harmless-base",
    "reward_training minilm-k16": "MiniLM, all weights, sixteen summaries of a document (summeval)",
    "policy_training causal-39m": "DPO of a policy, 39M Llama-shaped, all weights, pairs of harmless-base",
    "policy_training causal-39m-150k": "the same with a vocabulary of 151,936 pieces",
    "scoring causal-k4": "scoring four answers to a question with passages, 39M Llama-shaped",
}


def of(value: float, target: float | None) -> str:
    """Write a figure and what was aimed at."""
    return (
        f"{value:.2f}" if target is None else f"{value:.2f} (aim {target:g}: {'met' if value >= target else 'missed'})"
    )


def comparison(result: dict[str, Any]) -> list[str]:
    """Return the rows of one result: every side with its rates."""
    sides = {result["ours"]["settings"]: result["ours"], result["peer"]["settings"]: result["peer"]}
    sides |= result["other_sides"]
    rows = [
        "| side | per second (10 to 90 %) | useful tokens/s | as if unshared | padding | sharing | matrix rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rates in sides.items():
        rows.append(
            f"| {name} | {rates['items_per_second']:.2f} ({rates['p10']:.2f} to {rates['p90']:.2f}) "
            f"| {rates['useful_tokens_per_second']:,.0f} | {rates['equivalent_tokens_per_second']:,.0f} "
            f"| {rates['padding_share']:.0%} | {rates['sharing_factor']:.2f} | {rates['share_of_matrix_rate']:.0%} |"
        )
    return rows


def section(result: dict[str, Any]) -> list[str]:
    """Return what is said of one comparison."""
    name = result["name"]
    aim = TARGETS.get(name, {})
    spread = f"{result['ratio_min']:.2f} to {result['ratio_max']:.2f} in {result['repeats']} rounds"
    lines = [f"## {WHAT.get(name, name)}", "", *comparison(result), ""]
    lines.append(f"* {result['unit']}, over the peer: **{of(result['ratio'], aim.get('peer'))}**, {spread}.")
    most = result["ratio"] / result["ours"]["share_of_matrix_rate"]
    if "ratio_cached" in result:
        low, high = result["ratio_cached_min"], result["ratio_cached_max"]
        cached = of(result["ratio_cached"], aim.get("cached"))
        lines.append(
            f"* With what the reference says computed before, on both sides: **{cached}**, {low:.2f} to {high:.2f}."
        )
    lines.append(f"* By processor time: {result['processor_time_ratio']:.2f}.")
    lines.append(
        f"* With its useful tokens at the whole matrix rate, assay would be at {most:.2f}; no more is possible here."
    )
    for other, ratio in result["others"].items():
        lines.append(f"* Over {other}: {of(ratio, aim.get('loop') if other.startswith('plain loop') else None)}.")
    if "share_of_token_bound" in result:
        share = of(result["share_of_token_bound"], aim.get("bound"))
        lines.append(f"* The token bound is {result['token_bound']:.2f}; reached share: {share}.")
    elif "token_bound" in result:
        lines.append(
            f"* The peer computes {result['token_bound']:.2f} times the useful tokens, "
            f"{result['token_bound_with_padding']:.2f} times with padding."
        )
    if "matrix" in aim:
        lines.append(f"* Share of the matrix rate: {of(result['ours']['share_of_matrix_rate'], aim['matrix'])}.")
    if memory := result.get("peak_memory_mib"):
        lines.append(
            f"* Peak memory beyond the model, at {memory['tokens_of_the_largest_pass']:,} tokens in the largest pass: "
            f"{memory['ours']:,.0f} MiB, peer {memory['peer']:,.0f} MiB (aim not above: "
            f"{'met' if memory['ours'] <= memory['peer'] else 'missed'})."
        )
    gate = ", ".join(f"{key.replace('_', ' ')} {value:.1g}" for key, value in result["equivalence"].items())
    hardware = result["hardware"]
    lines.append(f"* Largest differences in the gate: {gate}.")
    lines.append(
        f"* {result['precision'].removeprefix('torch.')}, {hardware['cpu']}, {hardware['threads']} threads; products "
        f"of the model's shapes: {result['matrix_gflops_per_second']:.0f} GFLOP/s in the same run."
    )
    return [*lines, ""]


def growth(result: dict[str, Any]) -> list[str]:
    """Return how cost grows."""
    lines = [
        "## How cost grows",
        "",
        "| pairs | read, s | tokenise, s | plan, s | share of an epoch | own memory, MiB |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for size in result["by_pairs"]:
        took = size["seconds"]
        lines.append(
            f"| {size['pairs']:,} | {took['read']:.1f} | {took['tokenise']:.1f} | {took['plan']:.1f} "
            f"| {size['share_of_epoch']:.2%} | {size['peak_mib']:,.0f} |"
        )
    lines += ["", "| responses to a document | judgements/s | s per document | sharing |", "|---|---|---|---|"]
    for row in result["by_responses"]:
        lines.append(
            f"| {row['responses']} | {row['items_per_second']:.2f} | {row['seconds_per_document']:.2f} "
            f"| {row['sharing_factor']:.2f} |"
        )
    return [*lines, ""]


def label_models(result: dict[str, Any]) -> list[str]:
    """Return how fast votes are weighed and cast."""

    def at_most(value: float, unit: str, aim: float) -> str:
        return f"{value:.3f} {unit} (aim at most {aim:g}: {'met' if value <= aim else 'missed'})"

    reached = {True: "met", False: "missed"}
    spread = f"{result['ratio_min']:.1f} to {result['ratio_max']:.1f} in {result['repeats']} rounds"
    per_vote, others, whole = result["microseconds_per_vote"], result["others"], result["end_to_end"]
    lines = [
        "## Weighing votes of ten functions on a million pairs",
        "",
        f"* Fit and predict on one thread: {at_most(result['ours']['seconds'], 's', WEIGHING['seconds'])}, over "
        f"snorkel's label model **{result['ratio']:.1f}**, {spread}; over crowd-kit's Dawid-Skene on a tenth of them "
        f"{others['over crowd-kit, 100,000 rows']:.0f}. The default model, with judgements: "
        f"{result['seconds']['ours, correlated']:.2f} s.",
        f"* Casting simple votes, each: {at_most(per_vote['windows'], 'microseconds', WEIGHING['per_vote'])} from "
        f"features that are there, {per_vote['columns']:.2f} with the texts to look at. Over snorkel's applier "
        f"{others['windows over PandasLFApplier']:,.0f} and {others['columns over PandasLFApplier']:.0f} (aim "
        f"{WEIGHING['applier']:.0f}: {reached[others['windows over PandasLFApplier'] >= WEIGHING['applier']]} from "
        f"features, {reached[others['columns over PandasLFApplier'] >= WEIGHING['applier']]} with the texts).",
    ]
    if whole:
        lines.append(
            f"* `assay label` on a file of {whole['rows']:,} pairs ({whole['bytes_read'] / 2**20:,.0f} MiB), four "
            f"functions, the default model taught and calibrated on judgements: {whole['labelling_seconds']:.0f} s, "
            f"reading included ({whole['reading_seconds']:.0f} s by itself); peak memory "
            f"{whole['peak_memory_bytes'] / 2**20:,.0f} MiB."
        )
    lines.append(
        f"* {result['hardware']['cpu']}, one thread. Accuracies of the sides differ by "
        f"{result['equivalence']['accuracy']:.4f} at most, their votes not at all."
    )
    return [*lines, ""]


def online(result: dict[str, Any]) -> list[str]:
    """Return how fast a policy learns from what it writes."""
    work = result["work"]
    lines = [
        "## A step of online RL",
        "",
        "| method | over TRL | rounds | seconds a step, assay | by part |",
        "|---|---|---|---|---|",
    ]
    for method, ratio in result["others"].items():
        low, high = result["ranges"][method]
        own = f"assay {method}"
        parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in result["parts"][own].items())
        took = statistics.median(result["seconds"][own])
        lines.append(f"| {method} | **{of(ratio, ONLINE)}** | {low:.2f} to {high:.2f} | {took:.2f} | {parts} |")
    gate = ", ".join(f"{key.replace('_', ' ')} {value:.1g}" for key, value in result["equivalence"].items())
    lines += [
        "",
        f"* {work['prompts']} prompts x {work['responses']} responses of {work['tokens']} tokens, one update; the "
        f"peer at the best of the settings tried ({result['peer']['settings']}). Differences in the gate: {gate}.",
        f"* {result['precision']}, {result['hardware']['cpu']}, {result['hardware']['threads']} threads.",
    ]
    return [*lines, ""]


def serving(result: dict[str, Any]) -> list[str]:
    """Return how fast scores are served, and how faults are answered."""
    lines = [
        "## Scores over HTTP",
        "",
        "| work | texts/s offline, served, plain | of offline, by processor | by the clock | over the plain server "
        "| p50, p95 |",
        "|---|---|---|---|---|---|",
    ]
    for name, work in result["works"].items():
        rates = ", ".join(f"{rate:.1f}" for rate in work["texts_per_second"].values())
        shares = [work[key] for key in ("of_offline_by_processor", "of_offline", "over_plain")]
        aims = (SERVED["offline"], None, SERVED[name])
        cells = [
            f"{of(own['median'], aim)}, {own['least']:.2f} to {own['most']:.2f}"
            for own, aim in zip(shares, aims, strict=True)
        ]
        times = work["latency_seconds"]["assay serve"]
        lines.append(f"| {name} | {rates} | {' | '.join(cells)} | {times['p50']:.2f} s, {times['p95']:.2f} s |")
    gate = max(work["gate"] for work in result["works"].values())
    clients = ", ".join(f"{work['clients']} ({name})" for name, work in result["works"].items())
    statuses = sorted({status for work in result["works"].values() for status in work["statuses"]["assay serve"]})
    most = max(work["client_share"]["most"] for work in result["works"].values())
    answers = "; ".join(f"{fault}: {_answer(answer)}" for fault, answer in result["faults"].items())
    return [
        *lines,
        "",
        f"* Clients at once: {clients}; each request once. Statuses: {', '.join(map(str, statuses))}. By processor: "
        f"seconds of the serving process against those of scoring the same texts without a server; clients took "
        f"{most:.1%} of both at most. Largest difference of a score: {gate:.1g}.",
        f"* Faults: {answers}.",
        f"* {result['hardware']['cpu']}, {result['threads']} threads, float32.",
        "",
    ]


def _answer(answer: Any) -> str:
    parts = answer if isinstance(answer, list) else [answer]
    return " ".join(str(part) for part in parts if part is not None)


def redistribution(result: dict[str, Any]) -> list[str]:
    """Return what it costs to give rewards to tokens."""
    low, high = result["ci95"]
    word = "met" if high <= result["aim"] else "missed"
    seconds = ", ".join(f"{name} {value:.3f}" for name, value in result["seconds"].items())
    aim = f"aim: upper end at most {100 * result['aim']:g} %: {word}"
    return [
        "## What redistributing a reward costs",
        "",
        f"* **{100 * result['share']:.1f} %** of a cycle of sparse PPO, {100 * low:.1f} to {100 * high:.1f} % ({aim}); "
        f"{result['pairs_of_cycles']} pairs of cycles. Seconds: {seconds}.",
        f"* {result['precision']}, {result['hardware']['cpu']}, {result['hardware']['threads']} threads.",
        "",
    ]


def profiles(results: list[dict[str, Any]]) -> list[str]:
    """Return where the time of a step goes."""
    kinds = list(dict.fromkeys(kind for result in results for kind in result["share"]))
    lines = ["## Where the time of a training step goes", "", f"| work | {' | '.join(kinds)} |"]
    lines.append("|---" * (len(kinds) + 1) + "|")
    for result in results:
        shares = " | ".join(f"{result['share'].get(kind, 0.0):.0%}" for kind in kinds)
        lines.append(f"| {result['name'].removeprefix('profile ')} | {shares} |")
    return [*lines, ""]


def main() -> None:
    """Write the summary."""
    finished = (path for path in sorted(RESULTS.glob("*.json")) if not path.name.endswith(".partial.json"))
    results = {r["name"]: r for r in (json.loads(path.read_text(encoding="utf-8")) for path in finished)}
    lines = ["# Measured speed", "", "Written by `benchmarks/summary.py` from the result files beside it.", ""]
    for name in WHAT:
        if name in results:
            lines += section(results[name])
    if "online_rl causal-39m" in results:
        lines += online(results["online_rl causal-39m"])
    if "serving" in results:
        lines += serving(results["serving"])
    if "redistribution causal-39m" in results:
        lines += redistribution(results["redistribution causal-39m"])
    if profiled := [result for name, result in results.items() if name.startswith("profile ")]:
        lines += profiles(profiled)
    if "label_models" in results:
        lines += label_models(results["label_models"])
    if "growth" in results:
        lines += growth(results["growth"])
    (RESULTS / "summary.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
