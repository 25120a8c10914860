"""Grades of single responses, from yes-or-no questions: any judge can answer those, and each keeps its probability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from assay.scorers.judges.asking import Judge, as_array, check

_WORTH = (
    "Grades go from 1, of no use, to {top}, as good as an expert could write; helpful, relevant, correct, deep and "
    "detailed responses get high ones. Does the response deserve a grade of {grade} or higher?"
)


def graded(judge: Judge, prompts: Sequence[str], responses: Sequence[str], top: int = 10) -> np.ndarray:
    r"""Return the expected grade of each response, from 1 to ``top``, float64 ``[n]``.

    :math:`1 + \sum_{g=2}^{G} P(\text{grade} \ge g)`, so ``top - 1`` questions per response. MT-bench (Zheng et al.
    2023) lets its judge write the number after an explanation; here a judge needs to say yes or no only, and one whose
    probabilities are known gives more than whole grades. Judges like to say yes: only grades by one judge compare.

    Parameters
    ----------
    judge
        Who is asked.
    prompts, responses
        Texts; a prompt may be a whole conversation.
    top
        Highest grade, 2 or more.

    Returns
    -------
    numpy.ndarray
        NaN where a question was not answered.
    """
    criteria = [_WORTH.format(top=top, grade=grade) for grade in range(2, top + 1)]
    asked = [
        check(prompt, response, criterion)
        for prompt, response in zip(prompts, responses, strict=True)
        for criterion in criteria
    ]
    said = as_array(judge.ask(asked)).reshape(len(responses), top - 1)
    return np.asarray(1.0 + expit(said).sum(axis=1), np.float64)
