"""Rewards that need no model: right answers, formats, and the majority of a group.

All are functions of one shape, that of TRL's ``reward_funcs``: ``f(prompts, completions, **columns) -> [number or
None]``, called by keyword; None: no reward for this one. A completion is a text or a list of messages.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from assay.errors import ConfigError
from assay.feedback.tasks.task import read_answer
from assay.scorers.last_number import last_number

RewardFunction = Callable[..., Sequence[float | None]]
Kind = Literal["exact", "numeric", "format", "near", "label"]
#: Of STS-B, for which ``near`` was made.
_BOUNDS = (0.0, 5.0)


def text_of(completion: Any) -> str:
    """Return the text of a completion; of messages that of all contents."""
    if isinstance(completion, str):
        return completion
    return "\n".join(str(turn.get("content") or "") for turn in completion)


@dataclass(frozen=True)
class Verifier:
    r"""Compares an answer with the truth.

    Attributes
    ----------
    kind
        ``exact``: the answer is the truth, but for blanks around and case; ``numeric``: their last numbers are equal up
        to one part in a million; ``format``: the pattern is found, whatever the truth; ``near``: 2.5 minus the distance
        of the two numbers, the answer cut to ``bounds``; ``label``: the label of the last line (see
        `assay.feedback.tasks.task.read_answer`), one of the column ``choices``. The last two reward as PPO on GLUE does
        (Somayajula et al. 2025), but for an answer that is not there under ``near``: -3, or half a point below the
        worst answer that ``bounds`` allow, so that it is worse than any other. Where a row has ``choices``, which are
        numbers, ``near`` too reads the label of the last line, unless there is a pattern.
    pattern
        Regular expression; the answer is its last match, or the first group of that. None: the whole completion.
    right, wrong, unparsed
        Rewards; of an answer that is not there, ``unparsed``. None: wrong is 0 (``label``: -1), unparsed as wrong
        (``label``: -3, ``near``: see there). ``near`` knows right and wrong by its distance.
    column
        Name of the truth in the data; of a list of truths each is right (`accepted`).
    bounds
        Of ``near``: the least and the greatest number that there is. None: those of a row's ``choices``; without any, 0
        and 5.

    Raises
    ------
    ConfigError
        If the pattern is none, rewards or bounds are out of order, or another kind has bounds.
    """

    kind: Kind
    pattern: str | None = None
    right: float = 1.0
    wrong: float | None = None
    unparsed: float | None = None
    column: str = "ground_truth"
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind == "format" and self.pattern is None:
            raise ConfigError("a format is a pattern", expected="a regular expression", got="none")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ConfigError("a pattern is no regular expression", got=f"{self.pattern!r}: {error}") from error
        if self.kind == "label" and self.pattern is not None:
            raise ConfigError("labels are read from the last line", expected="no pattern", got=self.pattern)
        if self.bounds is not None and self.kind != "near":
            raise ConfigError("only the distance of numbers has bounds", expected="kind near", got=self.kind)
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ConfigError(
                "bounds are out of order", expected="the least number, then the greatest", got=str(self.bounds)
            )
        if not self.right > self.of_wrong or self.no_answer > self.of_wrong:
            raise ConfigError(
                "rewards are out of order",
                expected="unparsed <= wrong < right",
                got=f"{self.no_answer}, {self.of_wrong}, {self.right}",
            )

    @property
    def of_wrong(self) -> float:
        """Reward of a wrong answer."""
        return self.wrong if self.wrong is not None else (-1.0 if self.kind == "label" else 0.0)

    @property
    def no_answer(self) -> float:
        """Reward of a completion without an answer; ``near`` has its own."""
        return self.unparsed if self.unparsed is not None else (-3.0 if self.kind == "label" else self.of_wrong)

    @property
    def __name__(self) -> str:
        return self.kind

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """Return a reward for each completion; None where there is no truth.

        Raises
        ------
        ConfigError
            If the data have no such column, or a truth that is none of the kind's (`check`).
        """
        texts = [text_of(completion) for completion in completions]
        if self.kind == "format":
            return [self.right if self.answer(text) is not None else self.of_wrong for text in texts]
        truths = _column(columns, self.column)
        if self.kind == "label":
            choices = _column(columns, "choices")
            return [self._of_label(*each) for each in zip(texts, truths, choices, strict=True)]
        if self.kind == "near":
            choices = columns.get("choices", [None] * len(texts))
            return [self._of_distance(*each) for each in zip(texts, truths, choices, strict=True)]
        return [None if _none(t) else self._reward(text, t) for text, t in zip(texts, truths, strict=True)]

    def check(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Look at all truths before anything is trained on them.

        Raises
        ------
        ConfigError
            If a column is missing or empty, a truth is no number where numbers are compared, none within the bounds of
            ``near``, or no choice where labels are compared; the first one is shown, with how many there are.
        """
        if self.kind == "format":
            return
        truths = _column(columns, self.column)
        if all(_none(truth) for truth in truths):
            _column({name: own for name, own in columns.items() if name != self.column}, self.column)
        if self.kind == "exact":
            return
        choices = _column(columns, "choices") if self.kind == "label" else columns.get("choices", [None] * len(truths))
        wrong = [k for k, t in enumerate(truths) if not _none(t) and not self._may_be(accepted(t), choices[k])]
        if wrong:
            raise ConfigError(
                f"the truth is {'no choice' if self.kind == 'label' else 'no number'}",
                where=f"{self.column} of {len(wrong):,} of {len(truths):,} prompts",
                expected=self._expected(choices[wrong[0]]),
                got=repr(truths[wrong[0]])[:80],
                remedy="mend the data, choose another --reward.verifier.kind or --reward.verifier.column",
            )

    def _may_be(self, truths: Sequence[str], choices: Sequence[str] | None) -> bool:
        """Tell whether all truths of a row are what this kind compares."""
        if self.kind == "label":
            return set(truths) <= set(choices or ())
        low, high = self.ends(choices) if self.kind == "near" else (-math.inf, math.inf)
        numbers = [last_number(own) for own in truths]
        return all(each is not None and low <= each <= high for each in numbers)

    def _expected(self, choices: Sequence[str] | None) -> str:
        if self.kind == "near":
            low, high = self.ends(choices)
            return f"a number from {low:g} to {high:g} (--reward.verifier.bounds)"
        return "one of the row's choices" if self.kind == "label" else "a number"

    def ends(self, choices: Sequence[str] | None) -> tuple[float, float]:
        """Return the least and the greatest number that ``near`` knows for a row with these choices, if any."""
        if self.bounds is not None:
            return self.bounds
        numbers = _numbers(choices)
        return (min(numbers), max(numbers)) if numbers else _BOUNDS

    def _of_label(self, text: str, truth: Any, choices: Sequence[str]) -> float | None:
        if _none(truth):
            return None
        label = read_answer(text, tuple(choices)).label
        return self.no_answer if label is None else self.right if label in accepted(truth) else self.of_wrong

    def _of_distance(self, text: str, truth: Any, choices: Sequence[str] | None) -> float | None:
        if _none(truth):
            return None
        low, high = self.ends(choices)
        by_line = self.pattern is None and bool(_numbers(choices))
        answer = read_answer(text, tuple(choices or ())).label if by_line else self.answer(text)
        number = None if answer is None else last_number(answer)
        if number is None:
            return min(-3.0, 2.0 - (high - low)) if self.unparsed is None else self.unparsed
        return 2.5 - min(abs(min(max(number, low), high) - each) for each in self._wanted(truth))

    def answer(self, text: str) -> str | None:
        """Return the answer that a completion holds, or None."""
        if self.pattern is None:
            return text.strip() or None
        matches = list(re.finditer(self.pattern, text, re.DOTALL))
        if not matches:
            return None
        found = matches[-1]
        return ((found.group(1) if found.re.groups else found.group()) or "").strip()

    def _reward(self, text: str, truth: Any) -> float:
        answer = self.answer(text)
        if answer is None:
            return self.no_answer
        if self.kind == "exact":
            same = answer.casefold() in (each.strip().casefold() for each in (str(truth), *accepted(truth)))
            return self.right if same else self.of_wrong
        number = last_number(answer)
        if number is None:
            return self.no_answer
        # nothing is relatively close to 0
        near = (math.isclose(number, each, rel_tol=1e-6, abs_tol=0.0 if each else 1e-9) for each in self._wanted(truth))
        return self.right if any(near) else self.of_wrong

    def _wanted(self, truth: Any) -> list[float]:
        found = [last_number(each) for each in accepted(truth)]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            raise ConfigError("the truth is no number", where=self.column, got=str(truth)[:80])
        return known


def _numbers(choices: Sequence[str] | None) -> list[float]:
    """Return the choices as numbers; none where one is no number."""
    found = [last_number(own) for own in choices or ()]
    known = [each for each in found if each is not None]
    return known if len(known) == len(found) else []


def _none(truth: Any) -> bool:
    return truth is None or not accepted(truth)


def accepted(truth: Any) -> list[str]:
    """Return the answers that are right: a truth, or each member of a list of them.

    Data may hold a list of texts as JSON; brackets around numbers are a text, such as an interval or a vector.
    """
    if isinstance(truth, str) and truth.lstrip().startswith("["):
        try:
            found = json.loads(truth)
        except ValueError:
            return [truth]
        return list(found) if all(isinstance(each, str) for each in found) else [truth]
    return [str(each) for each in truth] if isinstance(truth, (list, tuple)) else [str(truth)]


def _column(columns: Mapping[str, Any], name: str) -> Sequence[Any]:
    if name not in columns:
        raise ConfigError(
            "the truth is not in the data" if name != "choices" else "the labels that there are are not in the data",
            where=name,
            expected="one of " + ", ".join(columns) if columns else "prompts with a column of that name",
            remedy="--reward.verifier.column NAME" if columns and name != "choices" else None,
        )
    found: Sequence[Any] = columns[name]
    return found


@dataclass(frozen=True)
class Majority:
    """1 where an answer is that of most responses to its prompt, else 0 (SeRL, Fang et al. 2025).

    Answers are compared as ``verifier`` reads them: texts, or numbers. What holds no answer has no vote and gets 0; of
    several answers with as many votes each gets 1.
    """

    verifier: Verifier

    @property
    def __name__(self) -> str:
        return "majority"

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], groups: Sequence[int], **_: Any
    ) -> list[float | None]:
        """Return 1 or 0 for each; ``groups`` numbers the prompts."""
        answers = [self._class(text_of(completion)) for completion in completions]
        votes: dict[int, Counter[Any]] = {}
        for group, answer in zip(groups, answers, strict=True):
            if answer is not None:
                votes.setdefault(int(group), Counter())[answer] += 1
        found: list[float | None] = []
        for group, answer in zip(groups, answers, strict=True):
            most = max(votes[int(group)].values()) if int(group) in votes else 0
            found.append(1.0 if answer is not None and votes[int(group)][answer] == most else 0.0)
        return found

    def _class(self, text: str) -> Any:
        answer = self.verifier.answer(text)
        if answer is None:
            return None
        return last_number(answer) if self.verifier.kind == "numeric" else answer.casefold()
