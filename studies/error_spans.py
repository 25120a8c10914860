"""Does a token's share of the reward tell where people marked errors: fine_grained_rlhf, prediction 1.

Fixed before the run:
  * data: 500 questions with four answers each, compared by people, who also marked errors in the first one (about half
    of its characters; 36 have none). Five folds of questions; what scores a fold's answers was trained on the others.
  * reward models, all weights, about 120 steps of the untied verdicts: ``causal`` (stories260K, loss averaged over
    tokens, one pass), ``causal_end`` (the same, loss at the end), ``minilm`` (reads everything at once, so every prefix
    is scored as a text of its own), and ``minilm_own`` (MiniLM that learned to tell the first answer to a question from
    one to another question: most marks say "irrelevant"). None of them reads the passages.
  * credit of a word: the score after it minus the score before it; of a sentence: the sum over its words. An error: a
    word of which a character is marked; a sentence more than half of whose characters are. Guess: less credit, error.
  * controls: ``position`` (how often words at that tenth of an answer are marked in the other folds), ``shuffled``
    (credit in random order within its answer).
  * figure: area under the ROC curve within an answer, mean over the answers that have both kinds.
  * contrasts (smallest effect 0.02): credit above shuffled, above position; of words and of sentences.
  * test: bootstrap over questions. Cut: one seed, one size of each model.

    python studies/error_spans.py --data DATA_FOLDER   # resumable
    python studies/error_spans.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from common import FOLDS, Study, conduct
from error_spans_summary import write_error_spans
from story_world import trained_on

from assay.feedback import comparison, from_rows
from assay.feedback.records import edge
from assay.scorers import RewardModel
from assay.scorers.pieces import aligned, ends_in_text, pieces
from assay.scorers.prefixes import reply_end

ANSWERS = ("prediction 1", "prediction 2", "prediction 3", "prediction 4")
TWOS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
MINILM: dict[str, Any] = {"backbone": "minilm", "template": "auto", "learning_rate": 5e-5, "max_length_tokens": 256}
CAUSAL: dict[str, Any] = {"template": "pair", "max_length_tokens": 512}
TOKENS: dict[str, Any] = {"objective": {"kind": "pairwise", "average": "tokens"}}
ARMS: dict[str, dict[str, Any]] = {
    "causal": CAUSAL | TOKENS,
    "causal_end": CAUSAL,
    "minilm": MINILM,
    "minilm_own": MINILM,
}
CELLS = [f"{arm}.{fold}" for arm in ARMS for fold in range(FOLDS)]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train one reward model on four folds, and give credit to the words of the fifth fold's answers."""
    arm, number = cell.split(".")
    with gzip.open(data / "fine_grained_rlhf" / "dev_feedback.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    fold = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    seen = [row for row, own in zip(rows, fold, strict=True) if own != int(number)]
    apart = [row for row, own in zip(rows, fold, strict=True) if own == int(number)]
    learned = _own_answers(seen) if arm == "minilm_own" else _preferences(seen)
    model = trained_on(str(data / "stories260K" / "hf"), from_rows(learned), 0, **ARMS[arm])
    right = [_right(model, row) for row in apart] if arm != "minilm_own" else []
    return {
        "accuracy": float(np.mean([hit for own in right for hit in own])) if right else None,
        "answers": [_credited(model, row) for row in apart],
    }


def _preferences(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the verdicts on four answers to each question that are no ties."""
    found = []
    for row in rows:
        verdicts = [
            edge(a, b) if said == 1 else edge(b, a)
            for (a, b), said in zip(TWOS, row["preference"], strict=True)
            if said and row[ANSWERS[a]] != row[ANSWERS[b]]
        ]
        if verdicts:
            answers = [row[name] for name in ANSWERS]
            found.append(comparison(row["question"], answers, verdicts, split_group=row["question"]))
    return found


def _own_answers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first answer to each question as better than those to four other questions."""
    order = np.random.default_rng(1).permutation(len(rows))
    return [
        comparison(
            rows[int(own)]["question"],
            [
                rows[int(own)][ANSWERS[0]],
                *(rows[int(order[(k + step) % len(rows)])][ANSWERS[0]] for step in (1, 2, 3, 4)),
            ],
            [edge(0, other) for other in (1, 2, 3, 4)],
            split_group=rows[int(own)]["question"],
        )
        for k, own in enumerate(order)
    ]


def _right(model: RewardModel, row: dict[str, Any]) -> list[float]:
    scores = model.score([row["question"]] * 4, [row[name] for name in ANSWERS])
    return [
        float((scores[a] > scores[b]) == (said == 1))
        for (a, b), said in zip(TWOS, row["preference"], strict=True)
        if said
    ]


def _credited(model: RewardModel, row: dict[str, Any]) -> dict[str, Any]:
    """Return of the first answer's words their credit, whether they are errors, where they end, and their sentence."""
    text = row[ANSWERS[0]]
    marked = np.zeros(len(text), bool)
    for error in row["feedback"]["errors"]:
        marked[error["start"] : error["end"]] = True
    words = [(found.start(), found.end()) for found in re.finditer(r"\S+", text)]
    sentence = np.cumsum([0, *(bool(re.search(r"[.!?]\W*$", text[a:b])) for a, b in words[:-1])])
    of_sentences: defaultdict[int, list[bool]] = defaultdict(list)
    for own, (start, end) in zip(sentence, words, strict=True):
        of_sentences[int(own)] += marked[start:end].tolist()
    values = _after_words(model, row["question"], text, [end for _, end in words])
    return {
        "credit": np.round(np.diff(values), 5).tolist(),
        "error": [bool(marked[start:end].any()) for start, end in words],
        "place": [round(end / len(text), 4) for _, end in words],
        "sentence": sentence.tolist(),
        "wrong_sentences": [float(np.mean(own)) > 0.5 for own in of_sentences.values()],
    }


def _after_words(model: RewardModel, question: str, text: str, ends: list[int]) -> np.ndarray:
    """Return the score before the first word, and after each: in one pass where the model is causal."""
    if not model.config.causal:
        return np.asarray(model.score([question] * (len(ends) + 1), ["", *(text[:end] for end in ends)]), np.float64)
    encoded = model.encoder.encode([question], [text])[0]
    scores = model.prefix_scores_encoded([encoded])[0].astype(np.float64)
    ids = encoded.ids[encoded.prompt_tokens : reply_end(model.encoder, encoded)]
    # pieces leave out the blanks that an answer begins with
    blanks = len(text) - len(text.lstrip())
    return aligned(scores, ends_in_text(pieces(model.encoder.tokenizer, ids)), np.array(ends) - blanks)


STUDY = Study(
    "error_spans",
    __doc__ or "",
    CELLS,
    (),
    run_cell,
    data="fine_grained_rlhf and stories260K",
    summarise=write_error_spans,
)

if __name__ == "__main__":
    conduct(STUDY)
