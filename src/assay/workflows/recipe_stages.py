"""Recipes as files: stages with their places filled in, every problem of every stage found before one runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from assay.config import Positional, Settings, build, to_plain
from assay.config.values import load_yaml
from assay.errors import ConfigError
from assay.output import check_new
from assay.workflows.run_settings import RunSettings
from assay.workflows.verbs import STAGES, Verb

SAMPLE = "sample"
_KEYS = ("data", "needs", "backbone", "task", "stages")
# how a stage runs, not what comes out of it
_RUNTIME = {"overwrite", "dry_run", "resume"}
#: Settings that name what a stage reads.
INPUTS = ("data", "test", "train", "labels", "model", "against", "unlabelled", "exclude")

_MODELS = ("model", "against")


class RunRecipeSettings(RunSettings):
    """Which recipe, on what, into which folder."""

    recipe: Annotated[str, Positional] = Field(description="YAML file, or the name of a shipped recipe")
    data: str | None = Field(default=None, description="in place of the recipe's data; none: what the recipe names")
    backbone: str | None = Field(
        default=None, description="in place of the recipe's backbone, where it names one: Hub id or folder"
    )
    task: str | None = Field(default=None, description="in place of the recipe's task, where it names one")
    out: str | None = Field(default=None, description="folder of the stages; none: runs/ and the recipe's name")


@dataclass(frozen=True)
class Stage:
    """One stage with its places filled in.

    Attributes
    ----------
    name
        Verb, or the name that the recipe gives.
    verb, values
        What runs, and its settings as they will be built.
    marker
        File that says that it was finished, with which settings and on which inputs.
    """

    name: str
    verb: Verb
    values: dict[str, Any]
    marker: Path
    where: str

    @property
    def out(self) -> Path | None:
        """Return where it writes, if anywhere."""
        return Path(self.values["out"]) if self.values.get("out") else None

    def settings(self, **runtime: bool) -> Settings:
        """Build its settings; runtime options that its verb does not have are left out."""
        known = {name: value for name, value in runtime.items() if name in self.verb.settings.model_fields}
        return build(self.verb.settings, self.values | known, where=self.where)

    def identity(self) -> dict[str, Any]:
        """Return what decides its result: settings, and size and time of the files that it reads."""
        plain = {name: value for name, value in to_plain(self.settings()).items() if name not in _RUNTIME}
        files = [file for name in INPUTS if plain.get(name) for file in _files_of(name, str(plain[name]))]
        stamps = {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
        return {"settings": plain, "files": stamps}

    def finished(self) -> dict[str, Any] | None:
        """Return the identity it was finished with, or None; what it wrote must still be there."""
        if not self.marker.is_file() or (self.out is not None and not self.out.exists()):
            return None
        try:
            return dict(json.loads(self.marker.read_text(encoding="utf-8")))
        except ValueError:
            return None


def _files_of(name: str, given: str) -> list[Path]:
    """Return the files that an input consists of: one, or all of a folder of data, also where a split is named."""
    path = Path(given)
    if path.is_file():
        return [path]
    folder = path if path.is_dir() else Path(given.rpartition(":")[0] or given)
    # later stages may write into a model's folder, as calibration does
    if name in _MODELS or not folder.is_dir():
        return []
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]


def sample_path() -> Path:
    """Return the bundled sample: graded responses, written for this project (see README.md beside it)."""
    return Path(str(resources.files("assay") / "recipes" / "sample" / "sample.jsonl"))


def shipped_recipes() -> dict[str, Path]:
    """Return name -> file of the recipes in the package."""
    folder = Path(str(resources.files("assay") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """Return the file of a shipped recipe, or of the user's own.

    Raises
    ------
    ConfigError
        If there is no such recipe.
    """
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    near = get_close_matches(name, shipped, n=1)
    raise ConfigError(
        f"no such recipe: {name}",
        expected=f"a YAML file, or one of {', '.join(shipped)}",
        remedy=f"assay run {near[0]}" if near else "check the path",
    )


def read_recipe(settings: RunRecipeSettings) -> list[Stage]:
    """Read a recipe and check all its stages.

    Raises
    ------
    ConfigError
        With every problem of every stage.
    """
    path = find_recipe(settings.recipe)
    content = recipe_content(path)
    out = Path(settings.out or f"runs/{path.stem}")
    if out.is_file():
        check_new(out)
    places = {"data": _data(path, content, settings), "out": str(out)}
    places |= {name: str(getattr(settings, name) or content[name]) for name in ("backbone", "task") if name in content}
    stages: list[Stage] = []
    problems = [
        f"{path.name}: {key}: no such setting; expected {', '.join(_KEYS)}" for key in content if key not in _KEYS
    ]
    for number, stage in enumerate(content["stages"], 1):
        where = f"{path.name}, stage {number}"
        try:
            stages.append(_stage(stage, number, where, places, settings))
            stages[-1].settings()
            problems += _clashes(stages, where, out)
        except ConfigError as error:
            problems += [line.strip() for line in error.problem.split("\n")[1:]] or [f"{where}: {error.problem}"]
    if settings.data and "{data}" not in str(content["stages"]):
        problems.append(f"--data: {path.name} does not use {{data}}")
    for name in ("backbone", "task"):
        if getattr(settings, name) and name not in content:
            problems.append(f"--{name}: {path.name} names no {name} for all its stages")
    if problems:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError("\n  ".join([f"{count} in the recipe", *problems]), where=str(path), remedy="mend the recipe")
    return stages


def recipe_content(path: Path) -> dict[str, Any]:
    """Read a recipe's file.

    Raises
    ------
    ConfigError
        If it is not a mapping with a list of stages.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        problem = f"cannot read the recipe: {' '.join(str(error).split())}"
        raise ConfigError(problem, where=str(path), remedy="mend the YAML") from error
    if not isinstance(content, dict) or not isinstance(content.get("stages"), list) or not content["stages"]:
        raise ConfigError(
            "this is not a recipe",
            where=str(path),
            expected="a mapping with a list of stages",
            got=", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__,
            remedy=f"see a shipped one, such as {shipped_recipes()['demo']}",
        )
    return content


def _data(path: Path, content: dict[str, Any], settings: RunRecipeSettings) -> str:
    data = settings.data or content.get("data")
    if data is None and "{data}" in str(content["stages"]):
        raise ConfigError(
            "this recipe needs data",
            where=str(path),
            expected=str(content.get("needs", "what its stages read")),
            remedy="--data DATA, or data: in the recipe",
        )
    return str(sample_path()) if data == SAMPLE else str(data)


def _stage(stage: Any, number: int, where: str, places: dict[str, str], settings: RunRecipeSettings) -> Stage:
    values = dict(stage) if isinstance(stage, dict) else {}
    verb = values.pop("verb", None)
    if verb not in STAGES:
        near = get_close_matches(str(verb), STAGES, n=1)
        guess = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"verb: expected one of {', '.join(STAGES)}, got {verb}{guess}")
    name = str(values.pop("name", verb))
    filled = {str(key).replace("-", "_"): fill(value, places) for key, value in values.items()}
    if "seed" in settings.model_fields_set or "seed" not in filled:
        filled["seed"] = settings.seed
    safe = "".join(letter if letter.isalnum() else "-" for letter in name)
    marker = Path(places["out"]) / f".{number:02d}-{safe}.done"
    return Stage(name, STAGES[verb].of_method(filled.get("method")), filled, marker, where)


def _clashes(stages: list[Stage], where: str, out: Path) -> list[str]:
    """Find places of the newest stage that another one, or the recipe itself, writes to."""
    place = stages[-1].out
    if place is None:
        return []
    if place.resolve() == out.resolve():
        return [f"{where}: out: {place} is the folder of the whole run; name one inside it, such as {{out}}/model"]
    if any(stage.out is not None and stage.out.resolve() == place.resolve() for stage in stages[:-1]):
        return [f"{where}: out: an earlier stage writes {place} already"]
    return []


def fill(value: Any, places: dict[str, str]) -> Any:
    """Put places in for ``{name}``, at any depth."""
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace("{" + name + "}", place)
        return value
    if isinstance(value, dict):
        return {key: fill(item, places) for key, item in value.items()}
    return [fill(item, places) for item in value] if isinstance(value, list) else value
