"""The methods of a study: a name for settings of ``assay train``; some come with assay, others from a YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from assay.config import build
from assay.config.values import load_yaml
from assay.errors import ConfigError
from assay.workflows.run_settings import not_among
from assay.workflows.settings import RoundsSettings, TrainSettings
from assay.workflows.study_settings import StudySettings

#: Name -> what differs from Bradley-Terry with one linear head.
METHODS: dict[str, dict[str, Any]] = {
    "bt": {},
    "bt_normalised": {"head": {"kind": "linear", "normalise": True}},
    "mlp": {"head": {"kind": "mlp"}},
    "mlp_large": {"head": {"kind": "mlp", "hidden": 286, "normalise": True}},
    "kernel": {"head": {"kind": "kernel"}},
    "prototypes": {"head": {"kind": "prototypes"}},
    "prototypes_by_class": {"head": {"kind": "prototypes", "class_weight": 1.0}},
    "prototypes_released": {"head": {"kind": "prototypes", "released": True}},
    "prototypes_not_grown": {"head": {"kind": "prototypes", "growth": "off"}},
    "prototypes_not_diverse": {"head": {"kind": "prototypes", "diversity": 0.0}},
    "prototypes_random": {"head": {"kind": "prototypes", "start": "random", "trained": False, "growth": "off"}},
    "ensemble": {"ensemble": {"members": 5}},
    "ensemble_mlp": {"ensemble": {"members": 5}, "head": {"kind": "mlp"}},
    "gpm": {"head": {"kind": "preference"}},
    "ser": {"evolve": {}},
}
#: What a study decides for all methods alike.
DECIDED = (
    *("data", "out", "test", "test_share", "test_groups_seed", "seed", "resume", "overwrite", "dry_run", "resamples"),
    *("calibration", "baseline_blind", "report_to", "format", "mapping", "split", "tokenizer", "group", "ties"),
)
#: Settings of rounds of self-labels, beside those of training.
EVOLVE = "evolve"
_COMMON = ("backbone", "template", "max_length_tokens", "truncation", "token_budget", "freeze_backbone", "epochs")


@dataclass(frozen=True)
class Method:
    """A method of a study.

    Attributes
    ----------
    name
        As in tables.
    given
        What differs from Bradley-Terry with one linear head, as it was given.
    settings
        Of the training.
    rounds
        Of self-labels on the training pairs that a fraction leaves out, whose judgements are hidden; None: none.
    """

    name: str
    given: dict[str, Any]
    settings: TrainSettings
    rounds: RoundsSettings | None = None


def methods_of(settings: StudySettings) -> list[Method]:
    """Return the methods of a study, the baseline first.

    Raises
    ------
    ConfigError
        If a name is not known (the nearest is named), or settings of a method are not right.
    """
    defined = read_methods(Path(settings.define)) if settings.define else {}
    known = METHODS | defined
    chosen = settings.methods if settings.names_methods or not defined else tuple(defined)
    problems = [problem for name in (settings.baseline, *chosen) if (problem := not_among(name, list(known)))]
    if problems:
        raise ConfigError(
            f"no such method: {problems[0]}",
            where="--methods" if settings.baseline in known else "--baseline",
            remedy="correct the name, or define it: --define FILE.yaml",
        )
    for name in defined:
        _method(settings, name, defined[name])  # also what is not used is to be right
    methods = [_method(settings, name, known[name]) for name in dict.fromkeys((settings.baseline, *chosen))]
    if settings.keep is not None:
        _refuse_unstoppable(settings, methods)
    return methods


def _refuse_unstoppable(settings: StudySettings, methods: Sequence[Method]) -> None:
    """Refuse to select after an epoch among what cannot stop there, or where nothing would be left out."""
    whole = [method.name for method in methods if method.rounds or not on_features(method.settings)]
    if whole:
        raise ConfigError(
            f"the training of {whole[0]} cannot stop after an epoch and go on",
            where="--keep",
            expected="methods that train heads on a frozen backbone, without rounds and without cross_prompt",
            remedy="leave --keep or these methods out",
        )
    assert settings.keep is not None
    if settings.keep >= len(methods) - 1:
        raise ConfigError(
            "this selection would leave no method out",
            where="--keep",
            expected=f"fewer than the {len(methods) - 1} methods beside the baseline, which is always finished",
            got=str(settings.keep),
            remedy="leave --keep out, or name more methods",
        )


def on_features(settings: TrainSettings) -> bool:
    """Tell whether a training needs nothing but features that were computed once."""
    return settings.freeze_backbone and not settings.cross_prompt


def read_methods(path: Path) -> dict[str, dict[str, Any]]:
    """Read a YAML file of methods: names, and below each settings of ``assay train``, and of rounds (``evolve``).

    Raises
    ------
    ConfigError
        If it cannot be read, is no mapping of mappings, or a method sets what the study decides for all.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        problem = f"cannot read the methods: {' '.join(str(error).split())}"
        raise ConfigError(problem, where=str(path), remedy="mend the YAML, or the path") from error
    found = {} if content is None else content
    if not isinstance(found, dict) or not all(isinstance(value, dict | None) for value in found.values()) or not found:
        raise ConfigError(
            "these are no methods",
            where=str(path),
            expected="names, and below each settings of assay train, such as\n  wide: {head: {kind: mlp, hidden: 512}}",
            got=type(content).__name__,
        )
    methods = {str(name): dict(value or {}) for name, value in found.items()}
    for name, value in methods.items():
        if wrong := [key for key in value if str(key).replace("-", "_") in DECIDED]:
            raise ConfigError(
                f"{wrong[0]} is the same for all methods of a study",
                where=f"{path}: {name}",
                remedy="leave it out here; assay study has it as a setting, or decides it",
            )
        if unsafe := [letter for letter in name if not (letter.isalnum() or letter in "-_")]:
            raise ConfigError(
                f"the name of a method becomes that of a file: {name!r} holds {unsafe[0]!r}",
                where=str(path),
                expected="letters, digits, - and _",
            )
    return methods


def _method(settings: StudySettings, name: str, given: dict[str, Any]) -> Method:
    where = f"method {name}"
    plain = {str(key).replace("-", "_"): value for key, value in given.items()}
    rounds = build(RoundsSettings, plain.pop(EVOLVE) or {}, where=f"{where}: {EVOLVE}") if EVOLVE in plain else None
    common = {key: getattr(settings, key) for key in _COMMON}
    merged = common | plain
    if merged["freeze_backbone"]:
        merged = {"calibration_folds": settings.calibration_folds} | merged
    trained = build(TrainSettings, {"data": "-", "out": "-", "seed": settings.seed, **merged}, where=where)
    problem = None if rounds is None else _without_rounds(trained)
    if problem:
        raise ConfigError(f"{EVOLVE}: {problem}", where=where, remedy="leave it out; or assay evolve by itself")
    return Method(name, given, trained, rounds)


def _without_rounds(trained: TrainSettings) -> str | None:
    """Say why a method cannot have rounds of self-labels in a study; None: it can."""
    if not trained.freeze_backbone:
        return "rounds of a study train heads on a frozen backbone"
    if trained.objective.kind != "pairwise" or trained.target.kind != "judged" or trained.clean.kind != "none":
        return "rounds label pairs by verdicts; objective, target and clean are as they are without settings"
    if trained.head.kind in ("preference", "attributes"):
        return f"the rules look at one score of a response, which --head {trained.head.kind} has not"
    return None
