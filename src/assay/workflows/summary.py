"""What the terminal shows at the end of a run: a few lines in words."""

from __future__ import annotations

from typing import Any

from assay.console import show
from assay.workflows.settings import CalibrateSettings, TrainSettings

_NAMES = {
    "length": "always the longer response",
    "bag_of_words": "a bag of words",
    "blind": "the same model, prompt hidden",
}


def show_train_summary(settings: TrainSettings, metrics: dict[str, Any]) -> None:
    """Say how good the model is, beside the baselines, and where everything lies."""
    if metrics.get("dry_run"):
        data = metrics["data"]
        show(
            f"would train on {data['train_pairs']:,} judgements in {metrics['steps']:,} steps"
            f" and test on {data['test_pairs']:,}"
        )
        return
    found = metrics.get("evaluation")
    if found:
        accuracy = _share(found["accuracy"]["value"], found["accuracy"]["ci95"])
        show(f"picks the better response in {accuracy} of {found['n_pairs']:,} held-out judgements")
        for name, baseline in metrics["baselines"].items():
            difference = baseline["difference"]
            low, high = difference["ci95"] or (float("nan"), float("nan"))
            show(
                f"  {_NAMES.get(name, name)}: {_share(baseline['accuracy'], baseline['accuracy_ci95'])};"
                f" the model is {100 * difference['value']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
            )
        after = found["calibrated"] or found
        state = "calibrated" if found["calibrated"] else "not calibrated"
        show(f"  NLL {after['nll']:.3f} (a coin: 0.693), ECE {after['ece']:.3f}, {state}")
    speed = metrics["throughput"]
    show(f"trained in {speed['training_seconds']:.0f} s at {speed['pairs_per_second']:.1f} judgements a second")
    show(f"model, metrics.json and report.html are in {settings.out}")


def _share(value: float, interval: list[float] | None) -> str:
    tail = f" (95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
    return f"{100 * value:.1f} %{tail}"


def show_calibration(settings: CalibrateSettings, metrics: dict[str, Any]) -> None:
    """Say what calibration changed on judgements it was not fitted on."""
    if metrics.get("dry_run"):
        show(f"would fit on {metrics['fit_pairs']:,} judgements and check on {metrics['check_pairs']:,}")
        return
    before, after = metrics["before"], metrics["after"]
    show(f"temperature {metrics['calibration']['temperature']:.3g} from {metrics['data']['fit_pairs']:,} judgements")
    show(
        f"on {metrics['data']['check_pairs']:,} others: NLL {before['nll']:.4f} -> {after['nll']:.4f}, "
        f"ECE {before['ece']:.4f} -> {after['ece']:.4f}; the ranking is unchanged"
    )
    show(f"calibrated model: {settings.out}")
