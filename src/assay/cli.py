"""The command line: each verb is a thin projection of one Python call."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from assay.config import Settings, parse
from assay.console import run_verb, show
from assay.errors import ConfigError


def _quiet() -> None:
    """Keep libraries from drawing bars for work of a second; ours show what takes long."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from datasets import disable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    disable_progress_bars()


def _check(settings: Any) -> int:
    from assay.console import results_console
    from assay.workflows.score_verbs import check_data

    report = check_data(settings)
    report.render(results_console())
    return 0 if report.ok else 1


def _train(settings: Any) -> None:
    from assay.workflows.summary import show_train_summary
    from assay.workflows.train import train

    show_train_summary(settings, train(settings))


def _evaluate(settings: Any) -> None:
    from assay.workflows.judge_verbs import evaluate_model

    evaluate_model(settings)


def _calibrate(settings: Any) -> None:
    from assay.workflows.judge_verbs import calibrate_model
    from assay.workflows.summary import show_calibration

    show_calibration(settings, calibrate_model(settings))


def _score(settings: Any) -> None:
    from assay.workflows.score_verbs import score_data

    score_data(settings)


def _export(settings: Any) -> None:
    from assay.workflows.score_verbs import export_model

    found = export_model(settings)
    if "largest_difference" in found:
        show(f"{settings.out}: a plain sequence classifier; largest score difference {found['largest_difference']:.2g}")
    else:
        show(f"would export: {found['reason_against'] or 'yes'}")


def _run(settings: Any) -> None:
    from assay.workflows.recipes import run_recipe

    run_recipe(settings)


def _demo(settings: Any) -> None:
    from assay.workflows.recipes import run_demo

    run_demo(settings)


def _settings_of(verb: str) -> type[Settings]:
    from assay.workflows import recipes, settings

    known: dict[str, type[Settings]] = {
        "check": settings.CheckSettings,
        "train": settings.TrainSettings,
        "evaluate": settings.EvaluateSettings,
        "calibrate": settings.CalibrateSettings,
        "score": settings.ScoreSettings,
        "export": settings.ExportSettings,
        "run": recipes.RunRecipeSettings,
        "demo": recipes.DemoSettings,
    }
    return known[verb]


#: Verb -> (what it does, its function).
VERBS: dict[str, tuple[str, Callable[[Any], int | None]]] = {
    "check": ("Check feedback before it is used: schema, repeats, leaks, length bias, truncation.", _check),
    "train": ("Train, calibrate and judge a reward model; make a run folder with a report.", _train),
    "evaluate": ("Judge any reward model on held-out judgements, alone or against another.", _evaluate),
    "calibrate": ("Fit the calibration of any reward model on judgements it was not trained on.", _calibrate),
    "score": ("Score responses, or every token of them.", _score),
    "export": ("Write a plain transformers sequence classifier with equal scores.", _export),
    "run": ("Run the stages of a recipe in order.", _run),
    "demo": ("Do the main job on the bundled sample, without network.", _demo),
}


def help_page() -> str:
    """Return the page of all verbs."""
    lines = ["usage: assay VERB ...", "", "Calibrated reward models from little, noisy and graded feedback.", ""]
    lines += [f"  {verb:<10} {summary}" for verb, (summary, _) in VERBS.items()]
    return "\n".join(
        [*lines, "", "assay VERB --help lists the settings of a verb; all can come from --config FILE.yaml."]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one verb; return its exit code: 0 done, 1 ``check`` found errors, 2 could not run."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        show(help_page())
        return 0
    if words[0] == "--version":
        from assay import __version__

        show(__version__)
        return 0

    def verb() -> int | None:
        if words[0] not in VERBS:
            from difflib import get_close_matches

            near = get_close_matches(words[0], VERBS, n=1)
            raise ConfigError(
                f"no such verb: {words[0]}",
                expected=", ".join(VERBS),
                remedy=f"assay {near[0]}" if near else "assay --help",
            )
        summary, function = VERBS[words[0]]
        settings = parse(_settings_of(words[0]), words[1:], prog=f"assay {words[0]}", summary=summary)
        _quiet()
        return function(settings)

    return run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
