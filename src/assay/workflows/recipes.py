"""``assay run`` and ``assay demo``: stages in order, and the main job on the bundled sample."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from assay.config import Positional, Settings, build
from assay.console import say
from assay.errors import ConfigError
from assay.output import write_json
from assay.workflows.settings import (
    CalibrateSettings,
    CheckSettings,
    EvaluateSettings,
    ExportSettings,
    RunSettings,
    ScoreSettings,
    TrainSettings,
)

SAMPLE = "sample"


class RunRecipeSettings(RunSettings):
    """Which recipe, on what, into which folder."""

    recipe: Annotated[str, Positional] = Field(description="YAML file, or the name of a shipped recipe")
    data: str | None = Field(default=None, description="in place of the recipe's data; none: the bundled sample")
    out: str | None = Field(default=None, description="folder of the stages; none: runs/ and the recipe's name")


class DemoSettings(RunSettings):
    """Where the demo writes."""

    out: str = Field(default="runs/demo", description="run folder; a former demo there is replaced")


def sample_path() -> Path:
    """Return the bundled sample: graded responses, written for this project (see README.md beside it)."""
    return Path(str(resources.files("assay") / "recipes" / "sample" / "sample.jsonl"))


def shipped_recipes() -> dict[str, Path]:
    """Return name -> file of the recipes in the package."""
    folder = Path(str(resources.files("assay") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _stage_kinds() -> dict[str, tuple[type[Settings], Any]]:
    from assay.workflows.judge_verbs import calibrate_model, evaluate_model
    from assay.workflows.score_verbs import check_data, export_model, score_data
    from assay.workflows.train import train

    return {
        "check": (CheckSettings, check_data),
        "train": (TrainSettings, train),
        "evaluate": (EvaluateSettings, evaluate_model),
        "calibrate": (CalibrateSettings, calibrate_model),
        "score": (ScoreSettings, score_data),
        "export": (ExportSettings, export_model),
    }


def run_recipe(settings: RunRecipeSettings) -> dict[str, Any]:
    """Run the stages of a recipe; a stage that was finished by an earlier, equal run is not repeated.

    A recipe is YAML with a list ``stages``; each names one ``verb`` and its settings. ``{data}`` and ``{out}`` stand
    for the data and the folder of the whole run.

    Raises
    ------
    ConfigError
        If the recipe does not exist, or a stage is not right; all stages are checked before the first one runs.
    """
    path = _find(settings.recipe)
    stages = _stages(path, settings)
    out = Path(settings.out or f"runs/{path.stem}")
    done: dict[str, Any] = {}
    for number, (name, model, values, function) in enumerate(stages, 1):
        say(f"stage {number} of {len(stages)}: {name}")
        marker = out / f".{number:02d}-{name}.done"
        if marker.exists() and not settings.overwrite:
            if json.loads(marker.read_text(encoding="utf-8")) == values:
                say("  finished before; --overwrite repeats it")
                continue
            raise ConfigError("this stage was finished with other settings", where=str(marker), remedy="--overwrite")
        made = build(model, values, where=f"{path.name}, stage {number}")
        result = function(made)
        done[name] = result
        if not settings.dry_run:
            write_json(marker, values)
    return done


def _find(name: str) -> Path:
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    from difflib import get_close_matches

    near = get_close_matches(name, shipped, n=1)
    raise ConfigError(
        f"no such recipe: {name}",
        expected=f"a YAML file, or one of {', '.join(shipped)}",
        remedy=f"assay run {near[0]}" if near else "check the path",
    )


def _stages(path: Path, settings: RunRecipeSettings) -> list[tuple[str, type[Settings], dict[str, Any], Any]]:
    """Read and check all stages, with places filled in."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError) as error:
        raise ConfigError(f"cannot read the recipe: {error}", where=str(path)) from error
    if not isinstance(content, dict) or not isinstance(content.get("stages"), list):
        raise ConfigError("a recipe is a mapping with a list of stages", where=str(path))
    data = settings.data or content.get("data") or SAMPLE
    if data == SAMPLE:
        data = str(sample_path())
    places = {"data": data, "out": settings.out or f"runs/{path.stem}"}
    kinds, stages = _stage_kinds(), []
    for number, stage in enumerate(content["stages"], 1):
        where = f"{path.name}, stage {number}"
        values = dict(stage) if isinstance(stage, dict) else {}
        verb = values.pop("verb", None)
        if verb not in kinds:
            raise ConfigError("unknown verb in a stage", where=where, expected=", ".join(kinds), got=str(verb))
        name = str(values.pop("name", verb))
        filled = {key: _fill(value, places) for key, value in values.items()}
        filled |= {
            "seed": filled.get("seed", settings.seed),
            "overwrite": settings.overwrite,
            "dry_run": settings.dry_run,
        }
        build(kinds[verb][0], filled, where=where)
        stages.append((name, kinds[verb][0], filled, kinds[verb][1]))
    return stages


def _fill(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace("{" + name + "}", place)
        return value
    if isinstance(value, dict):
        return {key: _fill(item, places) for key, item in value.items()}
    return [_fill(item, places) for item in value] if isinstance(value, list) else value


def run_demo(settings: DemoSettings) -> dict[str, Any]:
    """Run `assay demo`: check the sample, train on it, judge on a fifth of it, and say what happened."""
    from assay.console import show
    from assay.workflows.summary import show_train_summary
    from assay.workflows.train import train

    recipe = yaml.safe_load((shipped_recipes()["demo"]).read_text(encoding="utf-8"))
    stage = next(stage for stage in recipe["stages"] if stage["verb"] == "train")
    values = {key: _fill(value, {"data": str(sample_path()), "out": settings.out}) for key, value in stage.items()}
    values.pop("verb")
    values |= {"out": settings.out, "seed": settings.seed, "overwrite": True, "dry_run": settings.dry_run}
    made = build(TrainSettings, values, where="demo")
    show("assay demo: a reward model from the graded responses that ship with the package")
    metrics = train(made)
    show_train_summary(made, metrics)
    if not settings.dry_run:
        show(f"next: open {settings.out}/report.html, then assay train YOUR_DATA --out runs/mine")
    return metrics
