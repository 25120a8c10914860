"""Labeling functions: windows, decorators, what every function must do, and what is said of those that do not."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import ConfigError, DataError
from assay.feedback import labeling
from assay.feedback.labeling import (
    PRESETS,
    Batch,
    Feature,
    FeatureFunction,
    LabelingFunction,
    Texts,
    Window,
    by_scorer,
    check_labeling_function,
    feature_function,
    features,
    labeling_function,
    preset,
    similarity,
)
from assay.feedback.labeling.builtin import lexical_diversity, prompt_overlap, reading_ease, repetition
from assay.feedback.labeling.patterns import read_themes


@pytest.fixture(scope="module")
def own() -> ModuleType:
    """The file of functions, loaded by its path, as the command line does."""
    spec = importlib.util.spec_from_file_location("own_functions", Path(__file__).with_name("own_functions.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["own_functions"] = module
    spec.loader.exec_module(module)
    return module


def batch(*pairs: tuple[str, str], prompt: str = "What is it?") -> Batch:
    first = 2 * np.arange(len(pairs))
    return Batch(Texts.of([prompt] * len(pairs), [list(pair) for pair in pairs]), first, first + 1)


def vote(function: LabelingFunction, first: str, second: str, prompt: str = "What is it?") -> int:
    return int(function.votes(batch((first, second), prompt=prompt))[0])


BUILT_IN = {function.name: function for function in preset("general")}


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_functions_do_what_every_function_must(name: str) -> None:
    check_labeling_function(BUILT_IN[name])


def test_bounds_of_a_window_vote() -> None:
    length, ease = BUILT_IN["length"], BUILT_IN["reading ease"]
    assert vote(length, "x" * 120, "x" * 100) == 1 and vote(length, "x" * 119, "x" * 100) == 0
    assert ease.votes_by(np.array([50.0, 0.0, 50.1, 5.0, 4.9]), np.array([0, 1, 2, 3, 4]), np.full(5, 1)).tolist() == [
        -1,
        0,
        0,
        -1,
        0,
    ]


@given(
    st.lists(st.floats(-100, 100) | st.just(float("nan")), min_size=1),
    st.floats(0, 50),
    st.floats(0, 50),
)
def test_votes_of_a_window_change_sign_with_the_difference(d: list[float], least: float, room: float) -> None:
    window = Window(least, least + room)
    votes = window.votes(np.array(d))
    assert (window.votes(-np.array(d)) == -votes).all()
    size = np.abs(d)
    assert ((votes != 0) == ((size >= least) & (size <= least + room) & (size > 0))).all()


@pytest.mark.parametrize(
    ("name", "better", "other"),
    [
        ("length", "A long answer that says more than the other one.", "Short."),
        (
            "reading ease",
            "We saw the committee in the garden after dinner.",
            "We saw the man in the garden last night.",
        ),
        ("lexical diversity", "the cat and the dog and the bird", "every single word differs here"),
        ("sentiment", "What a wonderful, great and happy day!", "What a horrible, sad and bad day!"),
        ("numbers", "In 1969, 3 men flew.", "Some men flew."),
        ("phrases", "For example, according to experts it works.", "I guess so, maybe. I'm not sure."),
        ("offensive words", "That is wrong.", "That is bullshit."),
        (
            "prompt overlap",
            "Planets orbit stars.",
            "No.",
        ),
        ("refusal", "Here is how.", "I'm sorry, but I cannot help with that."),
        ("repetition", "One two three four five six.", "go on and go on and go on and go on and"),
        ("asks back", "Red.", "Red? What do you mean?"),
        ("structure", "- one\n- two\n- three", "one, two, three"),
    ],
)
def test_built_in_functions_prefer_what_they_say(name: str, better: str, other: str) -> None:
    prompt = "Which planets orbit which stars?"
    assert vote(BUILT_IN[name], better, other, prompt) == 1
    assert vote(BUILT_IN[name], other, better, prompt) == -1


def test_features_by_hand() -> None:
    # 6 words, one sentence, 7 syllables (read-ing)
    assert reading_ease("The cat sat down while reading.") == pytest.approx(206.835 - 1.015 * 6 - 84.6 * 7 / 6)
    assert np.isnan(reading_ease("12 ?!")) and np.isnan(lexical_diversity("…"))
    assert lexical_diversity("The the cat") == pytest.approx(2 / 3)
    assert prompt_overlap("planets and stars", "Which planets, which stars?") == pytest.approx(2 / 3)
    assert np.isnan(prompt_overlap("yes", "is it so?"))
    assert repetition("a b c a b c") == pytest.approx(1 / 4)
    assert repetition("a b c") == 0.0


def test_presets_are_those_of_the_paper() -> None:
    inf = float("inf")
    published = {
        "length": (20, inf, "more"),
        "reading ease": (5, 50, "less"),
        "lexical diversity": (0.1, inf, "less"),
        "sentiment": (0.05, inf, "more"),
        "numbers": (1, inf, "more"),
        "phrases": (1, inf, "more"),
    }
    assert PRESETS["mt_bench"] == PRESETS["ultrafeedback_binarized"] == published
    assert PRESETS["ultrafeedback_preferences"] == published | {"numbers": (2, inf, "more")}
    assert PRESETS["hh"] == published | {"numbers": (3, inf, "more"), "offensive words": (1, inf, "less")}
    assert published.items() <= PRESETS["general"].items()
    with pytest.raises(ConfigError, match="no such preset"):
        preset("hhh")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("refusal", "I’m sorry, but I can’t help with that.", 1),
        ("phrases", "I’m not sure, I don’t know.", -1),
        ("phrases", "First, mix.\nThen, bake.", 1),
        ("structure", "- - - a", 1),
        ("structure", "1. - item\n\n  * two\n# three\nfour - five", 3),
        ("structure", "```\n- x\n```", 3),
    ],
)
def test_features_of_common_texts(name: str, text: str, value: int) -> None:
    texts = Texts.of(["p"], [[text]])
    assert features()[name].values(texts).tolist() == [value]


def test_functions_of_a_file(own: ModuleType) -> None:
    assert vote(own.polite, "Certainly!", "No.") == 1 and vote(own.polite, "No.", "Gladly") == -1
    assert own.MADE == ["words"]  # once, not once a pair
    assert vote(own.shorter, "a", "bb") == 1
    assert vote(own.headings, "# a\n# b", "text") == 1 and vote(own.headings, "# a", "text") == 0
    assert own.echo.name == "named again" and vote(own.echo, "What is it? This.", "This.") == 1
    for function in (own.polite, own.shorter, own.headings, own.echo):
        check_labeling_function(function)
        assert pickle.loads(pickle.dumps(function)).name == function.name


def test_check_tells_all_that_is_wrong(own: ModuleType) -> None:
    with pytest.raises(DataError, match="likes_the_first_place") as caught:
        check_labeling_function(own.likes_the_first_place)
    assert "does not say the opposite" in str(caught.value) and "votes on equal responses" in str(caught.value)

    inside = labeling_function(name="inside")(lambda pair: 0)
    with pytest.raises(DataError, match="cannot be sent to another process"):
        check_labeling_function(inside)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda pair: 1 / 0, "raised ZeroDivisionError"),
        (lambda pair: 7, "got:      7, in 2 of 2 pairs"),
        (lambda pair: "first", "this is no vote"),
        (lambda pair: float("nan"), "this is no vote"),
    ],
)
def test_function_that_breaks_is_named(function: object, says: str) -> None:
    made = labeling_function(name="mine")(function)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="labeling function mine") as caught:
        made.votes(batch(("one", "two"), ("three", "four")))
    assert says in str(caught.value)


def test_vectorised_function_returns_one_vote_per_pair() -> None:
    made = labeling_function(name="mine", vectorised=True)(lambda prompts, first, second: [1])
    with pytest.raises(DataError, match="2 votes"):
        made.votes(batch(("one", "two"), ("three", "four")))


def test_function_that_reads_the_label_is_told_what_it_may_see(own: ModuleType) -> None:
    with pytest.raises(DataError, match=r"there is no pair\.label"):
        vote(own.reads_the_label, "one", "two")


@pytest.mark.parametrize(
    ("compute", "takes", "says"),
    [
        (lambda text: "long", "text", "a feature is a number"),
        (lambda texts, prompts: [1.0], "texts and prompts", "one number per response"),
        (lambda text: len(text) / 0, "text", "raised ZeroDivisionError"),
        (lambda texts, prompts: 1 / 0, "texts and prompts", "raised ZeroDivisionError"),
    ],
)
def test_feature_that_breaks_is_named(compute: object, takes: str, says: str) -> None:
    function = FeatureFunction(Feature("mine", compute, takes))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="labeling function mine") as caught:
        function.votes(batch(("one", "two")))
    assert says in str(caught.value)


def test_scorer_and_encoder_as_functions() -> None:
    scored = by_scorer(
        lambda prompts, responses: np.array([len(p) * r.count("!") for p, r in zip(prompts, responses, strict=True)]),
        least=1,
    )
    assert vote(scored, "Yes!", "Yes") == 1 and vote(scored, "Yes", "No") == 0

    def letters(texts: list[str]) -> np.ndarray:
        return np.array([[text.count(letter) for letter in "abc"] for text in texts], float)

    near = FeatureFunction(similarity(letters), Window(0.1))  # type: ignore[arg-type]
    assert vote(near, "aab", "ccc", prompt="aab") == 1
    assert vote(near, "no such letter: _", "xyz", prompt="aab") == 0  # no vector, so no angle


def test_own_patterns_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "themes.yaml"
    path.write_text("good: {thanks: ['\\bthank you\\b']}\nbad: {haste: ['whatever', 'dunno']}\n")
    good, bad = read_themes(path)
    function = FeatureFunction(
        Feature("mine", labeling.patterns.good_less_bad, "column", settings={"good": good, "bad": bad})
    )
    assert vote(function, "Thank you.", "ok") == 1 and vote(function, "whatever, dunno", "whatever") == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("good: [a]", "themes hold patterns"),
        ("fine: {a: [b]}", "patterns have two sides"),
        ("good: {a: ['(']}", "no regular expression"),
        ("good: {a: ['(?<=x)y']}", "no regular expression"),
        ("good: {a: b: c}", "cannot be read"),
    ],
)
def test_broken_patterns_are_told(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "themes.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_themes(path)


def test_window_without_room() -> None:
    with pytest.raises(DataError, match="no room"):
        Window(3, 2)


def test_a_feature_is_preferred_more_or_less() -> None:
    with pytest.raises(DataError, match="expected: more or less"):
        feature_function(prefers="longer")(len)  # type: ignore[arg-type]


@pytest.mark.parametrize("said", [[1, [1]], [[1], 0]])
def test_votes_of_several_shapes_are_no_votes(said: list[Any]) -> None:
    @labeling_function(name="odd")
    def function(pair: labeling.Pair) -> int:
        return 0

    with pytest.raises(DataError, match="this is no vote"):
        function._checked(said, 2)
