"""Responses with their tokens coloured by what each changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.evaluation.report import now, page_environment

#: Shades on each side of nothing.
SHADES = 5


@dataclass(frozen=True)
class Heat:
    """One response.

    Attributes
    ----------
    prompt
        Text.
    tokens
        (text of the token, its credit, shade from -`SHADES` to `SHADES`).
    score
        Of the whole response.
    begun
        Of the bare prompt.
    """

    prompt: str
    tokens: list[tuple[str, float, int]]
    score: float
    begun: float


def heat(prompt: str, tokens: Sequence[str], prefix_scores: Sequence[float], largest: float | None = None) -> Heat:
    """Colour a response by the differences of its prefix scores.

    Parameters
    ----------
    prompt
        Text.
    tokens
        ``[T]``: the text of each.
    prefix_scores
        ``[T + 1]``, the bare prompt's first.
    largest
        Credit of the darkest shade; None: the largest of this response.
    """
    credit = np.diff(np.asarray(prefix_scores, np.float64))
    top = largest or float(np.abs(credit).max(initial=0.0)) or 1.0
    shades = np.clip(np.round(SHADES * credit / top), -SHADES, SHADES).astype(int)
    coloured = list(zip(tokens, credit.tolist(), shades.tolist(), strict=True))
    return Heat(prompt, coloured, float(prefix_scores[-1]), float(prefix_scores[0]))


def token_page(title: str, responses: Sequence[Heat], left_out: int = 0) -> str:
    """Return a page of responses; ``left_out`` more are not on it."""
    template: Any = page_environment().get_template("tokens.html.j2")
    return str(template.render(title=title, responses=responses, left_out=left_out, created=now()))
