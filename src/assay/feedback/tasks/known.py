"""Tasks that are known by name: public sets as their makers, or the Hub, lay them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from assay.feedback.tasks.task import Task


@dataclass(frozen=True)
class Columns:
    """Where a layout keeps what an example consists of.

    Attributes
    ----------
    texts
        Name in templates -> column.
    label
        Column of the label: its name, its number among the task's labels, or (``grade``) a number to be rounded.
    choices
        Column of the choices, or columns with one choice each; None: the task's labels.
    rationales
        Columns with what people wrote for the right label, text or list; those that are not there are passed over.
    group
        Column whose equal values stay together; None: that of the first text.
    grade
        Makes of a cell the number that is rounded to the nearest label of an ordinal task; halves go up.
    numbered
        Labels in the order of this layout's numbers; None: the task's.
    """

    texts: dict[str, str]
    label: str = "label"
    choices: str | tuple[str, ...] | None = None
    rationales: tuple[str, ...] = ()
    group: str | None = None
    grade: Callable[[Any], float] | None = None
    numbered: tuple[str, ...] | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that a file of this layout has."""
        choices = (self.choices,) if isinstance(self.choices, str) else self.choices or ()
        group = () if self.group is None else (self.group,)
        return tuple(dict.fromkeys((*self.texts.values(), self.label, *choices, *group)))


@dataclass(frozen=True)
class Known:
    """A task and the layouts that it is found in; the first whose columns are there is read.

    Attributes
    ----------
    task, layouts
        What is asked, and where it is found.
    spellings
        Other name of a label, in small letters -> label.
    """

    task: Task
    layouts: tuple[Columns, ...]
    spellings: dict[str, str] = field(default_factory=dict)


def _grade(name: str) -> Callable[[Any], float]:
    return lambda cell: float(cell[name])


_NLI = (
    "Premise: {premise}\nHypothesis: {hypothesis}\nDoes the premise make the hypothesis true ({labels})?",
    "Read this: {premise}\nIs it so that {hypothesis}\nChoose one of {labels}.",
    "{hypothesis}\nJudge this sentence by what follows, as one of {labels}: {premise}",
)
_FEELING = (
    "Review: {text}\nIs it {labels}?",
    "{text}\nHow does who wrote this feel about it? Choose one of {labels}.",
    "What is the mood of this sentence ({labels})? {text}",
)
_CHOICE = (
    "Question: {question}\nChoices: {labels}",
    "{question}\nWhich of these fits best: {labels}?",
    "Choose from {labels}. {question}",
)
_SAME = (
    "First: {first}\nSecond: {second}\nDo both say the same ({labels})?",
    "{first}\n{second}\nDo these two mean the same thing? Choose one of {labels}.",
)
_CLASSES_OF_NEWS = ("world", "sports", "business", "science and technology")
_EXPLAINED = ("explanations", "explanation_1", "explanation_2", "explanation_3")
#: Before the Hub's TREC had a ``coarse_label``, it numbered the classes as they first occur.
_TREC_AS_THEY_COME = ("description", "entity", "abbreviation", "human", "number", "location")
_SENTIMENT = {"neg": "negative", "pos": "positive"}
_SAMENESS = {
    "not_equivalent": "different",
    "not equivalent": "different",
    "equivalent": "same",
    "not_duplicate": "different",
    "not duplicate": "different",
    "duplicate": "same",
}
_ENTAILS = ("entailment", "neutral", "contradiction")

#: Name -> task and layouts. Ordinal tasks round grades to the nearest label.
TASKS: dict[str, Known] = {
    "esnli": Known(
        Task("esnli", _NLI, _ENTAILS),
        (
            Columns({"premise": "premise", "hypothesis": "hypothesis"}, rationales=_EXPLAINED),
            Columns(
                {"premise": "Sentence1", "hypothesis": "Sentence2"},
                "gold_label",
                rationales=("Explanation_1", "Explanation_2", "Explanation_3"),
            ),
        ),
    ),
    "mnli": Known(
        Task("mnli", _NLI, _ENTAILS),
        (
            Columns({"premise": "premise", "hypothesis": "hypothesis"}),
            Columns({"premise": "sentence1", "hypothesis": "sentence2"}, "gold_label"),
        ),
    ),
    "sst2": Known(
        Task("sst2", _FEELING, ("negative", "positive")),
        (Columns({"text": "text"}), Columns({"text": "sentence"})),
        _SENTIMENT,
    ),
    "movie_reviews": Known(
        Task("movie_reviews", _FEELING, ("negative", "positive")), (Columns({"text": "text"}),), _SENTIMENT
    ),
    "trec": Known(
        Task(
            "trec",
            (
                "Question: {text}\nWhat kind of answer does it want ({labels})?",
                "{text}\nThe answer to this is one of {labels}: which?",
                "Of which kind ({labels}) is the answer to: {text}",
            ),
            ("abbreviation", "entity", "description", "human", "location", "number"),
        ),
        (
            Columns({"text": "text"}),
            Columns({"text": "text"}, "coarse_label"),
            Columns({"text": "text"}, "label-coarse", numbered=_TREC_AS_THEY_COME),
        ),
        {"abbr": "abbreviation", "enty": "entity", "desc": "description", "hum": "human", "loc": "location"}
        | {"num": "number"},
    ),
    "cos_e": Known(
        Task("cos_e", _CHOICE, kind="choices"),
        (Columns({"question": "question"}, "answer", "choices", ("rationale_open_ended", "abstractive_explanation")),),
    ),
    "ecqa": Known(
        Task("ecqa", _CHOICE, kind="choices"),
        (
            Columns({"question": "question"}, "answer", "choices", ("rationale",)),
            Columns({"question": "q_text"}, "q_ans", tuple(f"q_op{k}" for k in range(1, 6)), ("taskB",)),
        ),
    ),
    "ag_news": Known(
        Task(
            "ag_news",
            ("News: {text}\nWhat is it about ({labels})?", "{text}\nIn which part of a paper is this: {labels}?"),
            _CLASSES_OF_NEWS,
        ),
        (Columns({"text": "text"}),),
        {"sci/tech": _CLASSES_OF_NEWS[3], "science": _CLASSES_OF_NEWS[3]},
    ),
    "mrpc": Known(
        Task("mrpc", _SAME, ("different", "same"), symmetric=True),
        (Columns({"first": "sentence1", "second": "sentence2"}),),
        _SAMENESS,
    ),
    "qqp": Known(
        Task("qqp", _SAME, ("different", "same"), symmetric=True),
        (
            Columns({"first": "question1", "second": "question2"}),
            Columns({"first": "question1", "second": "question2"}, "is_duplicate"),
        ),
        _SAMENESS,
    ),
    "stsb": Known(
        Task(
            "stsb",
            ("First: {first}\nSecond: {second}\nHow alike are they, from {labels}?",),
            ("0", "1", "2", "3", "4", "5"),
            "ordinal",
            symmetric=True,
        ),
        (Columns({"first": "sentence1", "second": "sentence2"}, grade=float),),
    ),
    "app_reviews": Known(
        Task("app_reviews", ("Review: {text}\nHow many stars: {labels}?",), ("1", "2", "3", "4", "5"), "ordinal"),
        (Columns({"text": "review"}, "star", grade=float),),
    ),
    "d2t_quality": Known(
        Task(
            "d2t_quality",
            ("To be said: {meaning}\nSaid: {text}\nHow well, from {labels}?",),
            ("1", "2", "3", "4", "5", "6"),
            "ordinal",
        ),
        (Columns({"meaning": "prompt", "text": "response"}, "grades", grade=_grade("quality")),),
    ),
    "summeval_coherence": Known(
        Task(
            "summeval_coherence",
            ("Summary: {summary}\nHow coherent is it, from {labels}?",),
            ("1", "2", "3", "4", "5"),
            "ordinal",
        ),
        (Columns({"summary": "response"}, "grades", group="doc_id", grade=_grade("coherence")),),
    ),
}
