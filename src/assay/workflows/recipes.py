"""``assay run``: the stages of a recipe in order, each done once; and ``assay demo``, the main job on the sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from assay.config import build
from assay.console import say, show
from assay.errors import ConfigError
from assay.output import write_json
from assay.workflows.hub import use_cache_without_network
from assay.workflows.recipe_stages import (
    RunRecipeSettings,
    Stage,
    fill,
    read_recipe,
    recipe_content,
    sample_path,
    shipped_recipes,
)
from assay.workflows.run_settings import RunSettings
from assay.workflows.settings import TrainSettings


class DemoSettings(RunSettings):
    """Where the demo writes."""

    out: str = Field(default="runs/demo", description="run folder; a former demo there is replaced")


def run_recipe(settings: RunRecipeSettings) -> int:
    """Run the stages of a recipe; a stage that an earlier run finished with equal settings is not repeated.

    A recipe is YAML with a list ``stages``; each names one ``verb`` and its settings. ``{data}`` and ``{out}`` stand
    for the data and the folder of the whole run. An interrupted training goes on from its checkpoints. Once one stage
    has run, those after it run too, since they may use what it made.

    Returns
    -------
    int
        0, or the exit code of the stage that stopped the recipe (1: a check found errors).

    Raises
    ------
    ConfigError
        If the recipe does not exist, or stages are not right; all are checked, and all problems named, before the
        first one runs.
    """
    stages = read_recipe(settings)
    again = settings.overwrite
    made: list[Path] = []
    for number, stage in enumerate(stages, 1):
        say(f"stage {number} of {len(stages)}: {stage.name}")
        done = None if again else stage.finished()
        if done is not None and done != stage.identity():
            raise ConfigError(
                "this stage was finished with other settings, or its data has changed since",
                where=str(stage.marker),
                remedy="--overwrite does all stages again; or name another --out",
            )
        if done is not None:
            say("  finished before; --overwrite does it again")
            continue
        if settings.dry_run and (waiting := _not_there_yet(stage, made)):
            say(f"  its settings are right; it needs {waiting}, which an earlier stage makes")
        else:
            # what this recipe made itself may be replaced; anything else in the way is refused
            replace = settings.overwrite or stage.marker.is_file()
            made_new = stage.settings(overwrite=replace, dry_run=settings.dry_run, resume=not replace)
            use_cache_without_network(made_new)
            code = stage.verb.run(made_new)
            if code:
                say(f"stopped: stage {number} of {len(stages)} ({stage.name}) found errors")
                return code
        if stage.out is not None:
            made.append(stage.out)
        if not settings.dry_run:
            again = True
            write_json(stage.marker, stage.identity())
    return 0


def _not_there_yet(stage: Stage, made: list[Path]) -> str | None:
    """Return an input that an earlier stage of a dry run would have made."""
    inputs = [Path(text) for name, value in stage.values.items() if name != "out" for text in _texts(value)]
    missing = (path for path in inputs if not path.exists() and any(path.is_relative_to(out) for out in made))
    return next((str(path) for path in missing), None)


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def run_demo(settings: DemoSettings) -> int:
    """Run `assay demo`: train on the sample, judge on a fifth of it, and say what happened."""
    from assay.workflows.summary import show_train_summary
    from assay.workflows.train import train

    recipe = recipe_content(shipped_recipes()["demo"])
    stage = next(stage for stage in recipe["stages"] if stage["verb"] == "train")
    values = {key: fill(value, {"data": str(sample_path()), "out": settings.out}) for key, value in stage.items()}
    values.pop("verb")
    values |= {"out": settings.out, "seed": settings.seed, "overwrite": True, "dry_run": settings.dry_run}
    made = build(TrainSettings, values, where="demo")
    show("assay demo: a reward model from the graded responses that ship with the package")
    metrics = train(made)
    show_train_summary(made, metrics)
    if not settings.dry_run:
        show(f"next: open {settings.out}/report.html, then assay train YOUR_DATA --out runs/mine")
    return 0
