"""What the terminal shows at the end of a run: a few lines in words."""

from __future__ import annotations

from typing import Any

from assay.console import say, show
from assay.evaluation.calibration import FLAG_MEANINGS
from assay.feedback import pairs
from assay.workflows.data import Shares
from assay.workflows.judge_settings import CalibrateSettings, EvaluateSettings
from assay.workflows.settings import JobSettings

_NAMES = {
    "length": "always the longer response",
    "bag_of_words": "a bag of words",
    "blind": "the same model, prompt hidden",
}


def shares_lines(settings: JobSettings, shares: Shares) -> list[str]:
    """Say which judgements train, validate and test, and what was left out so that no group is on both sides."""
    by_folds = getattr(settings, "freeze_backbone", False)
    lines = []
    if shares.removed:
        lines.append(f"left out of training, since the test data holds their prompts: {_overlap(shares)}")
    for role, data in (("train on", shares.fit), ("validate on", shares.validation), ("test on", shares.test)):
        if data is not None:
            judgements, groups = len(pairs(data)), len(set(data["split_group"]))
            what = f"{judgements:,} judgements" if judgements else f"graded responses to {len(data):,} prompts"
            lines.append(f"{role} {what} of {groups:,} split groups")
    if shares.test is None:
        lines.append("nothing is held out for a test, so nothing will be evaluated (--test-share 0)")
    elif settings.test is None:
        lines[-1] += f", {settings.test_share:.0%} held out by group (--test-share, or --test DATA)"
    if shares.validation is None and not by_folds:
        lines.append("no validation share (none wanted, or too few judgements): no early stopping and no calibration")
    return lines


def _overlap(shares: Shares) -> str:
    found = shares.removed
    return f"{found.train_judgements:,} judgements of {found.train_rows:,} prompts" if found else "none"


def show_train_summary(settings: JobSettings, metrics: dict[str, Any]) -> None:
    """Say how good the model is, beside the baselines, and where everything lies."""
    if metrics.get("dry_run"):
        data = metrics["data"]
        show(
            f"would train on {data['train_pairs']:,} judgements in {metrics['steps']:,} steps"
            f" and test on {data['test_pairs']:,}; nothing was written"
        )
        return
    found = metrics.get("evaluation")
    if found:
        accuracy = _share(found["accuracy"]["value"], found["accuracy"]["ci95"])
        show(f"picks the better response in {accuracy} of {found['accuracy']['n']:,} decided held-out judgements")
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
    elif metrics.get("rated") is None:
        show("not evaluated: no judgements were held out")
    if metrics.get("rated"):
        _show_rated(metrics["rated"])
    speed = metrics["throughput"]
    pace = f" at {speed['pairs_per_second']:.1f} judgements a second" if speed["pairs_per_second"] else ""
    show(f"trained in {speed['training_seconds']:.0f} s{pace}")
    show(f"model, metrics.json and report.html are in {settings.out}")


def _show_rated(found: dict[str, Any]) -> None:
    rank, within = found["rank"], found["rank_within"]
    show(
        f"scores and grades of {found['n_responses']:,} held-out responses: rank correlation {_number(rank)}"
        + (f", within a prompt {_number(within)}" if within["n"] else "")
    )
    if found["auroc"]:
        show(f"  a good response scores above a bad one with probability {_number(found['auroc'])}")
    if found["nll"]:
        right = _share(found["accuracy"]["value"], found["accuracy"]["ci95"])
        show(f"  P(good): right in {right}, NLL {_number(found['nll'])}")


def _number(found: dict[str, Any]) -> str:
    tail = f" ({found['ci95'][0]:.3f} to {found['ci95'][1]:.3f})" if found["ci95"] else ""
    return f"{found['value']:.3f}{tail}"


def _share(value: float, interval: list[float] | None) -> str:
    tail = f" (95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
    return f"{100 * value:.1f} %{tail}"


def show_evaluation_end(settings: EvaluateSettings, metrics: dict[str, Any]) -> None:
    """Say where the evaluation was written, or what a dry run would judge; the tables are shown already."""
    if metrics.get("dry_run"):
        beside = "" if metrics["baselines"] else ", without a bag of words beside it (--train DATA)"
        show(f"would judge {metrics['pairs']:,} judgements{beside}; nothing was written")
    elif settings.out:
        show(f"metrics.json and report.html are in {settings.out}")


def show_calibration(settings: CalibrateSettings, metrics: dict[str, Any]) -> None:
    """Say what calibration changed on judgements it was not fitted on."""
    if metrics.get("dry_run"):
        data = metrics["data"]
        show(f"would fit on {data['fit_pairs']:,} judgements and check on {data['check_pairs']:,}; nothing was written")
        return
    before, after = metrics["before"], metrics["after"]
    fitted = metrics["calibration"]
    name = f"temperature {fitted['temperature']:.3g}" if fitted["kind"] == "temperature" else "isotonic calibration"
    show(f"{name} from {metrics['data']['fit_pairs']:,} judgements")
    show(
        f"on {metrics['data']['check_pairs']:,} others: NLL {before['nll']:.4f} -> {after['nll']:.4f}, "
        f"ECE {before['ece']:.4f} -> {after['ece']:.4f}; the ranking is unchanged"
    )
    for flag in fitted.get("flags") or ():
        say(f"caution: {FLAG_MEANINGS.get(flag, flag)}")
    show(f"calibrated model: {settings.out}")
