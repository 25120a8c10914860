"""What is written is read back, and a flag means what the same value means in a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.config import build, diff_from_defaults, dump_yaml, parse, to_plain
from tests.config.models import Lora, Target, Train

numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
nasty = st.sampled_from(
    ["on", "no", "1e5", "1e-5", "0x1", "null", "~", "true", "12:30", "=", "-", "", "a: b", "\x85\u2028", "2024-01-01"]
)
anything = st.none() | st.booleans() | st.integers() | numbers | texts | nasty
targets = st.builds(Target, kind=st.sampled_from(["mmpo", "smooth"]), gamma=st.floats(1e-300, 1e300))
loras = st.builds(Lora, rank=st.integers(1, 10**9), target_modules=st.just("all-linear") | st.lists(texts | nasty))
trains = st.builds(
    Train,
    data=texts | nasty,
    other=st.none() | texts | nasty,
    seed=st.integers(),
    test_share=st.floats(0, 1, exclude_max=True),
    target=targets,
    lora=st.none() | loras,
    precision=st.booleans() | st.just("auto"),
    bits=st.sampled_from([None, 4, 8]),
    name=st.none() | texts | nasty,
    out=st.sampled_from([Path("a/b"), Path("/x y")]),
    shares=st.lists(numbers).map(tuple),
    words=st.lists(texts | nasty),
    mapping=st.dictionaries(texts | nasty, texts | nasty),
    extras=st.dictionaries(texts | nasty, anything | st.lists(anything)),
    stages=st.lists(targets).map(tuple),
)
slow = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@slow
@given(trains)
def test_dumped_yaml_reads_back_equal(tmp_path: Path, original: Train) -> None:
    file = tmp_path / "resolved.yaml"
    file.write_text(dump_yaml(original), encoding="utf-8", newline="")
    assert parse(Train, ["--config", str(file)], prog="p", summary="") == original


@slow
@given(trains)
def test_difference_from_defaults_rebuilds(original: Train) -> None:
    assert build(Train, diff_from_defaults(original)) == original


def test_difference_from_defaults_is_only_the_difference() -> None:
    assert diff_from_defaults(Train(data="d")) == {"data": "d"}
    changed = Train(data="d", target=Target(kind="mmpo", gamma=3.0), lora=Lora())
    assert diff_from_defaults(changed) == {"data": "d", "target": {"gamma": 3.0}, "lora": {}}


def test_plain_is_json() -> None:
    plain = to_plain(Train(data="d", out=Path("x")))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["out"] == "x"


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]))
plain_words = words.filter(lambda text: not text.startswith("--"))


@slow
@given(
    st.one_of(
        st.tuples(st.just("test_share"), st.floats(0, 1, exclude_max=True)),
        st.tuples(st.just("target.gamma"), st.floats(1e-300, 1e300)),
        st.tuples(st.just("seed"), st.integers()),
        st.tuples(st.just("lora.rank"), st.integers(1, 2**40)),
        st.tuples(st.just("bits"), st.sampled_from([4, 8, None])),
        st.tuples(st.just("precision"), st.sampled_from([True, False, "auto"])),
        st.tuples(st.just("freeze_backbone"), st.booleans()),
        st.tuples(st.just("name"), plain_words.filter(lambda text: text.lower() not in ("none", "null"))),
        st.tuples(st.just("extras.key"), st.booleans() | st.integers() | numbers),
        st.tuples(st.just("words"), st.lists(words)),
        st.tuples(st.just("shares"), st.lists(numbers)),
        st.tuples(st.just("mapping"), st.dictionaries(words, words)),
    ),
    st.booleans(),
    st.booleans(),
)
def test_flag_equals_file(tmp_path: Path, setting: tuple[str, Any], kebab: bool, equals: bool) -> None:
    name, value = setting
    flag = "--" + (name.replace("_", "-") if kebab else name)
    text = value if isinstance(value, str) else json.dumps(value)
    file = tmp_path / "one.yaml"
    nested: Any = value
    for part in reversed(name.split(".")):
        nested = {part: nested}
    file.write_text(yaml.safe_dump(nested, allow_unicode=True), encoding="utf-8", newline="")
    from_flag = parse(Train, ["d", *([f"{flag}={text}"] if equals else [flag, text])], prog="p", summary="")
    assert from_flag == parse(Train, ["d", "--config", str(file)], prog="p", summary="")


def test_infinity_is_refused_unless_a_field_admits_it() -> None:
    with pytest.raises(ValueError, match="finite"):
        Target(gamma=math.inf)
