"""Settings: one set of pydantic models behind YAML files, flags and Python fields.

>>> from typing import Annotated, Literal
>>> from pydantic import Field
>>> class Target(Settings):
...     kind: Literal["plain", "mmpo"] = Field(default="plain", description="what a judgement becomes")
...     gamma: float = Field(default=1.0, gt=0, description="sharpness of the target")
>>> class Lora(Settings):
...     rank: int = Field(default=8, ge=1)
>>> class Train(Settings):
...     data: Annotated[str, Positional] = Field(description="judgements: a file, a folder or a Hub id")
...     test_share: float = Field(default=0.2, ge=0, lt=1, description="share of the groups held out")
...     target: Target = Target()
...     lora: Lora | None = None
>>> argv = ["pairs.jsonl", "--test-share", "0.1", "--target.kind=mmpo", "--lora.rank", "4"]
>>> train = parse(Train, argv, prog="assay train", summary="Train a reward model.")
>>> train.target.kind, train.lora.rank
('mmpo', 4)
>>> print(dump_yaml(train), end="")
data: pairs.jsonl
test_share: 0.1
target:
  kind: mmpo
  gamma: 1.0
lora:
  rank: 4
>>> diff_from_defaults(train)
{'data': 'pairs.jsonl', 'test_share': 0.1, 'target': {'kind': 'mmpo'}, 'lora': {'rank': 4}}
>>> parse(Train, ["--target.gama", "2", "--test-share", "all"], prog="assay train", summary="")
Traceback (most recent call last):
    ...
assay.errors.ConfigError: 3 problems in the settings
  --target.gama: no such setting; did you mean --target.gamma?
  DATA: required, and not given
  --test-share: expected a number, got 'all'
  try:      assay train --help

Why not a ready-made parser: pydantic-settings reads neither ``--test_share`` beside ``--test-share`` nor
``--mapping.key value`` and stops at unknown flags without naming a near one, and tyro makes a subcommand of every
optional group and stops at the first error.

Names: ``--test-share`` and ``--test_share`` are one flag, likewise in files; ``--flag=value`` works for all. Booleans:
``--x``, ``--no-x``, ``--x false``. Lists: several words, commas, repeats, or JSON (text that holds commas needs JSON).
Dictionaries: ``--mapping.key value``. ``none`` clears what may be None. A list takes every word up to the next flag, so
arguments read by place come first, or after ``--``. Files are laid over each other in order, and flags over them; lists
are replaced whole. Combinations that cannot be go into `Settings.conflicts`, which may report several at once.
"""

from typing import Any

from assay.config.fields import Positional as Positional
from assay.config.fields import Settings as Settings
from assay.config.gather import Given
from assay.config.usage import usage
from assay.config.validate import S, validate
from assay.config.validate import diff_from_defaults as diff_from_defaults
from assay.config.validate import to_plain as to_plain
from assay.config.values import write_yaml


def parse(model: type[S], argv: list[str], *, prog: str, summary: str) -> S:
    """Read settings from command-line words and the files that they name; ``--help`` prints the page and exits with 0.

    Raises
    ------
    ConfigError
        With all problems at once: unknown names, wrong types, missing settings, impossible combinations.
    """
    given, words, literal = Given(model), list[str](), False
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        literal = literal or word == "--"
        if not literal and word in ("--help", "-h"):
            print(usage(model, prog, summary), end="")
            raise SystemExit(0)
        if literal or word.partition("=")[0] != "--config":
            words.append(word)
        elif "=" in word or rest:
            given.add_file(word.partition("=")[2] or rest.pop(0))
        else:
            given.problems.append("--config: needs a file")
    given.add_flags(words)
    return validate(given, model, f"{prog} --help")


def build(model: type[S], values: dict[str, Any], *, where: str = "") -> S:
    """Build settings from nested values (a recipe's stage, say); ``where`` names their place in messages.

    Raises
    ------
    ConfigError
        As `parse` does.
    """
    given = Given(model)
    given.add_mapping(values, f"{where}: " if where else "")
    return validate(given, model, "correct the settings named above")


def dump_yaml(settings: Settings) -> str:
    """Write all settings as YAML that ``--config`` reads back to an equal object."""
    return write_yaml(to_plain(settings))
