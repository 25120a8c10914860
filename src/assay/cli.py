"""The command line: each verb is a thin projection of one Python call."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING

from assay.console import quiet, run_verb, show
from assay.errors import ConfigError

if TYPE_CHECKING:
    from assay.workflows.verbs import Verb

#: Verb -> what it does.
VERBS: dict[str, str] = {
    "check": "Check feedback before it is used: schema, repeats, leaks, length bias, truncation.",
    "label": "Label pairs by functions and a label model, or look for functions (--explore).",
    "task": "Make a classification task into prompts, answers and pairs that hinge on the label (RLLR).",
    "classify": "Judge policies on the held-out part of a task: labels, confusion, ways to ask, best of n.",
    "strength": "Show how strong each preference is to models that did not see it, and the most doubtful ones.",
    "train": "Train, calibrate and judge a reward model; make a run folder with a report.",
    "evaluate": "Judge any reward model on held-out judgements, alone or against another.",
    "calibrate": "Fit the calibration of any reward model on judgements it was not trained on.",
    "score": "Score responses, or every token of them.",
    "select": "Choose which unlabelled pairs to judge next; write them for annotators.",
    "evolve": "Let a reward model label pairs for itself, round by round, for as long as that helps.",
    "align": "Train a policy straight from comparisons, or from rewards of what it writes (--method ppo, grpo …).",
    "curriculum": "Let a policy learn several tasks online, at once or in the order of what they do to each other.",
    "compare": "Compare what two policies write: who is preferred, at equal length too, and how far they are apart.",
    "study": "Compare methods on fractions of the judgements, and say which to use.",
    "serve": "Score over HTTP in the peers' wire formats, with a page to look inside and to judge pairs.",
    "export": "Write a plain transformers sequence classifier with equal scores.",
    "run": "Run the stages of a recipe in order.",
    "demo": "Do the main job on the bundled sample, without network.",
}


def verb_named(name: str) -> Verb:
    """Return a verb's settings and function.

    Raises
    ------
    ConfigError
        If there is no such verb; the nearest is suggested.
    """
    if name not in VERBS:
        near = get_close_matches(name, VERBS, n=1)
        raise ConfigError(
            f"no such verb: {name}",
            expected=", ".join(VERBS),
            remedy=f"assay {near[0]}" if near else "assay --help",
        )
    from assay.serving.serve_settings import ServeSettings
    from assay.serving.serve_verb import run_server
    from assay.workflows.recipe_stages import RunRecipeSettings
    from assay.workflows.recipes import DemoSettings, run_demo, run_recipe
    from assay.workflows.verbs import STAGES, Verb

    others = {
        "run": Verb(RunRecipeSettings, run_recipe),
        "demo": Verb(DemoSettings, run_demo),
        "serve": Verb(ServeSettings, run_server),
    }
    return (STAGES | others)[name]


def help_page() -> str:
    """Return the page of all verbs."""
    lines = ["usage: assay VERB ...", "", "Calibrated reward models from little, noisy and graded feedback.", ""]
    lines += [f"  {verb:<10} {summary}" for verb, summary in VERBS.items()]
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

    # read by libraries when they are imported
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

    def verb() -> int | None:
        found = verb_named(words[0]).of_words(words[1:])
        from assay.config import parse
        from assay.workflows import ranks
        from assay.workflows.hub import use_cache_without_network

        settings = parse(found.settings, words[1:], prog=f"assay {words[0]}", summary=VERBS[words[0]])
        if ranks.count() > 1 and words[0] not in ranks.IN_SEVERAL:
            raise ConfigError(
                f"assay {words[0]} runs in one process",
                got=f"{ranks.count()} processes",
                remedy=f"leave out the launcher; of the verbs only {', '.join(ranks.IN_SEVERAL)} uses several",
            )
        quiet()
        use_cache_without_network(settings)
        return found.run(settings)

    return run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
