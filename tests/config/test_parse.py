from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from assay.config import Positional, Settings, build, diff_from_defaults, parse, to_plain
from assay.errors import ConfigError
from tests.config.models import Lora, Target, Train


def train(*argv: str) -> Train:
    return parse(Train, ["d", *argv], prog="assay train", summary="Train a reward model.")


def problems(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        train(*argv)
    return [line.strip() for line in caught.value.problem.splitlines()[1:]]


@pytest.mark.parametrize(
    ("argv", "field", "expected"),
    [
        (["--test-share", "0.1"], "test_share", 0.1),
        (["--test_share=0.1"], "test_share", 0.1),
        (["--target.kind", "smooth"], "target", Target(kind="smooth", gamma=2.0)),
        (["--target.gamma", "1e-5"], "target", Target(kind="mmpo", gamma=1e-5)),
        (["--lora.rank", "4"], "lora", Lora(rank=4)),
        (["--lora"], "lora", Lora()),
        (["--lora", "none"], "lora", None),
        (["--lora", '{"rank": 4, "target-modules": ["q"]}'], "lora", Lora(rank=4, target_modules=["q"])),
        (["--lora.target-modules", "all-linear"], "lora", Lora()),
        (["--lora.target_modules", "q_proj", "v_proj"], "lora", Lora(target_modules=["q_proj", "v_proj"])),
        (["--freeze-backbone"], "freeze_backbone", True),
        (["--freeze-backbone", "false"], "freeze_backbone", False),
        (["--no-center"], "center", False),
        (["--center=no"], "center", False),
        (["--precision", "auto"], "precision", "auto"),
        (["--no-precision"], "precision", False),
        (["--bits", "4"], "bits", 4),
        (["--bits", "none"], "bits", None),
        (["--name", "0"], "name", "0"),
        (["--name=--odd"], "name", "--odd"),
        (["--name="], "name", ""),
        (["--shares", "-1", "0.5"], "shares", (-1.0, 0.5)),
        (["--words", "a", "b,c", "--words", "d"], "words", ["a", "b", "c", "d"]),
        (["--words", '["a, b", "c"]'], "words", ["a, b", "c"]),
        (["--mapping.prompt", "post", "--mapping.a-b.c", "x"], "mapping", {"prompt": "post", "a-b.c": "x"}),
        (["--mapping", '{"prompt": "post"}'], "mapping", {"prompt": "post"}),
        (["--extras.eps", "1e-5", "--extras.on", "on"], "extras", {"eps": 1e-5, "on": "on"}),
        (["--extras.fast", "true", "--extras.fee", "none"], "extras", {"fast": True, "fee": "none"}),
        (["--stages", '[{"kind": "mmpo"}]'], "stages", (Target(kind="mmpo"),)),
        (["--seed", "-3"], "seed", -3),
    ],
)  # fmt: skip
def test_flag_sets_field(argv: list[str], field: str, expected: object) -> None:
    assert train(*argv) == Train(data="d", **{field: expected})  # type: ignore[arg-type]


def test_positionals_stand_anywhere_but_inside_a_list() -> None:
    argv = ["--epochs", "1", "a", "--overwrite", "b", "--words", "x", "y"]
    read = parse(Train, argv, prog="p", summary="")
    assert (read.data, read.other, read.words) == ("a", "b", ["x", "y"])
    assert parse(Train, ["--words", "x", "--", "a", "--b"], prog="p", summary="").other == "--b"


def test_last_positional_may_be_a_list() -> None:
    class Many(Settings):
        model: Annotated[str, Positional]
        files: Annotated[tuple[str, ...], Positional] = ()

    assert parse(Many, ["m", "a,b", "c"], prog="p", summary="") == Many(model="m", files=("a,b", "c"))


def test_flags_win_over_files_and_later_files_over_earlier(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("test-share: 0.3\nlora: {rank: 2, target_modules: [q]}\nepochs: 1\nmapping: {a: x, b: y}\n")
    second.write_text("lora.rank: 5\nepochs: 7\n")
    read = train("--epochs", "9", "--config", str(first), f"--config={second}", "--mapping.a", "z")
    assert read.test_share == 0.3
    assert read.lora == Lora(rank=5, target_modules=["q"])
    assert (read.epochs, read.mapping) == (9, {"a": "z", "b": "y"})


def test_file_may_hold_positionals_and_nothing_at_all(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("data: pairs.jsonl\n")
    assert parse(Train, ["--config", str(file)], prog="p", summary="").data == "pairs.jsonl"
    file.write_text("# nothing\n")
    assert train("--config", str(file)) == Train(data="d")


def test_partly_given_group_keeps_the_defaults_of_the_field_not_of_the_class() -> None:
    assert train("--target.gamma", "3").target == Target(kind="mmpo", gamma=3.0)


def test_all_problems_at_once_with_place_expectation_and_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("target:\n  kindd: mmpo\ntest-share: q\nstages: [{kind: mmp}, {gama: 2}]\nnothing-near: 1\n")
    found = problems(
        "--config", str(file), "--target.gama=2", "--rank", "x", "--epochs", "1.5", "--seed", "--zzz=1", "-q"
    )
    assert found == [
        f"{file}: target.kindd: no such setting; did you mean kind?",
        f"{file}: stages[1].gama: no such setting; did you mean gamma?",
        f"{file}: nothing-near: no such setting",
        "--target.gama: no such setting; did you mean --target.gamma?",
        "--rank: no such setting; did you mean --lora.rank?",
        "--seed: needs a value",
        "--zzz: no such setting",
        "-q: no such flag; flags begin with two dashes",
        f"{file}: test-share: expected a number, got 'q'",
        "--epochs: expected a whole number, got '1.5'",
        "--rank: expected a whole number, got 'x'",
        f"{file}: stages[0].kind: expected 'plain', 'mmpo' or 'smooth', got 'mmp'; did you mean mmpo?",
    ]


def test_impossible_combinations_are_found_beside_other_problems() -> None:
    found = problems("--freeze-backbone", "--lora", "--target.kind", "plain", "--epochs", "x")
    assert found == [
        "--epochs: expected a whole number, got 'x'",
        "--freeze-backbone: not with --lora",
        "--target.gamma: only with --target.kind mmpo",
    ]


def test_combination_is_not_reported_for_a_mistyped_choice_that_would_mend_it() -> None:
    assert problems("--target.kind", "mmpoo") == [
        "--target.kind: expected 'plain', 'mmpo' or 'smooth', got 'mmpoo'; did you mean mmpo?"
    ]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--epochs", "1", "--epochs", "2"], "--epochs: given twice, '1' and '2'"),
        (["a", "b"], "'b': one argument too many"),
        (["--test-share", "1"], "--test-share: expected less than 1, got '1'"),
        (["--target.gamma", "nan"], "--target.gamma: expected a finite number, got 'nan'"),
        (["--lora", "8"], "'8': one argument too many"),
        (["--lora=8"], "--lora: expected a mapping, got '8'"),
        (["--words", "[a"], "--words: expected JSON, got '[a'"),
        (["--precision=maybe"], "--precision: expected a boolean or 'auto', got 'maybe'"),
        (["--lora.target-modules", "q,", "--lora.rank=0"], "--lora.rank: expected greater than or equal to 1, got '0'"),
        (["--shares", "1", "x"], "--shares[1]: expected a number, got 'x'"),
        (["--config"], "--config: needs a file"),
    ],
)
def test_one_problem(argv: list[str], line: str) -> None:
    extra = ["e"] if argv[0] in ("--lora",) else []
    assert line in problems(*extra, *argv)


def test_missing_positional_is_named_as_the_help_names_it() -> None:
    with pytest.raises(ConfigError, match="DATA: required, and not given") as caught:
        parse(Train, [], prog="assay train", summary="")
    assert caught.value.remedy == "assay train --help"


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    assert problems("--config", str(file)) == [f"{file}: cannot be read: No such file or directory"]
    file.write_text("seed: 1\nseed: 2\n")
    assert "key given twice: seed" in problems("--config", str(file))[0]
    file.write_text("- 1\n")
    assert problems("--config", str(file)) == [f"{file}: expected a mapping of settings, got list"]
    file.write_text("a: [\n")
    assert problems("--config", str(file))[0].startswith(f"{file}: not YAML: ")
    file.write_bytes(b"\xff\xfe\x00")
    assert problems("--config", str(file))[0].startswith(f"{file}: cannot be read: ")


class Plain(Settings):
    kind: Literal["plain"] = "plain"
    smoothing: float = 0.0


class Margin(Settings):
    kind: Literal["mmpo"] = "mmpo"
    gamma: float = 1.0


class Tagged(Settings):
    target: Annotated[Plain | Margin, Field(discriminator="kind")] = Plain(smoothing=0.1)


def read(*argv: str) -> Any:
    return parse(Tagged, list(argv), prog="p", summary="").target


def test_tagged_alternatives() -> None:
    assert read("--target.kind", "mmpo", "--target.gamma", "2") == Margin(gamma=2.0)
    assert read("--target.kind", "plain") == Plain(smoothing=0.1)
    assert read("--target.smoothing", "0.3") == Plain(smoothing=0.3)
    with pytest.raises(ConfigError, match=r"--target.gamma: belongs to --target.kind mmpo"):
        read("--target.gamma", "2")


def test_build_reads_python_values_and_names_their_place() -> None:
    assert build(Target, {"kind": "mmpo"}) == Target(kind="mmpo")
    with pytest.raises(ConfigError, match="stage 2: gama: no such setting; did you mean gamma") as caught:
        build(Target, {"gama": 1, "kind": "x"}, where="stage 2")
    assert "stage 2: kind: expected 'plain'" in str(caught.value)


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Target().gamma = 2.0


@pytest.mark.parametrize("target", [Plain(smoothing=0.1), Plain(), Plain(smoothing=0.2), Margin(), Margin(gamma=2.0)])
def test_tagged_alternatives_round_trip(target: Plain | Margin) -> None:
    original = Tagged(target=target)
    assert build(Tagged, diff_from_defaults(original)) == original
    assert build(Tagged, to_plain(original)) == original


def test_unknown_name_is_read_as_its_nearest_without_further_complaint() -> None:
    expected = ["--target.gama: no such setting; did you mean --target.gamma?"]
    assert problems("--target.gama", "2", "--target.gamma", "3") == expected
    assert problems("--gamma", "2") == ["--gamma: no such setting; did you mean --target.gamma?"]
    assert problems("--freze-backbone", "e") == ["--freze-backbone: no such setting; did you mean --freeze-backbone?"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--target", "mmpo", "--target.gamma", "3"], Margin(gamma=3.0)),
        (["--target.gamma", "3", "--target", "mmpo"], Margin(gamma=3.0)),
        (["--target=plain", "--target.smoothing", "0.2"], Plain(smoothing=0.2)),
        (["--target", '{"kind": "mmpo"}'], Margin()),
    ],
)
def test_one_word_names_the_kind(words: list[str], expected: Any) -> None:
    assert read(*words) == expected


def test_one_word_names_the_kind_in_files_and_in_python(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("target: mmpo\n")
    assert read("--config", str(tmp_path / "a.yaml"), "--target.gamma", "2") == Margin(gamma=2.0)
    assert Tagged.model_validate({"target": "mmpo"}).target == Margin()


def test_an_unknown_kind_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"--target: expected 'plain' or 'mmpo', got 'mmpoo'; did you mean mmpo\?"):
        read("--target", "mmpoo")
