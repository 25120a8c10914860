"""The one scoring core: conversations in, scores out, with all that a scorer knows of each.

Servers, clients, pages and ``assay score`` are thin projections of `ScoringCore.score`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from assay.errors import ModelError
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET
from assay.scorers.calibrated import calibrated_probability
from assay.scorers.conversation import Encoded
from assay.scorers.encoding import scores_in
from assay.scorers.pieces import pieces
from assay.scorers.preference import native_margins
from assay.scorers.prefixes import why_no_prefix_scores
from assay.scorers.provenance import model_fingerprint
from assay.scorers.scored import Conversation, Item, Measured, NoNumber, Preference, Score


class ScoringCore:
    """Scores conversations of all forms with one model.

    Encoding may run beside scoring, in another thread; each of them runs in one thread at a time.

    Parameters
    ----------
    model
        A `RewardModel`, an ensemble, or a policy with its reference.
    token_budget
        Padded tokens of a forward pass.
    """

    def __init__(self, model: Any, token_budget: int = DEFAULT_TOKEN_BUDGET) -> None:
        self.model, self.token_budget = model, token_budget
        self.fingerprint = model_fingerprint(model)
        self._tokenising = threading.Lock()  # tokenizers may be used by one thread at a time

    @property
    def calibrated(self) -> bool:
        """Whether probabilities were calibrated; else they are those of a temperature of 1."""
        return self.model.record.calibration is not None

    @property
    def why_no_tokens(self) -> str | None:
        """Why there is no score per token in one pass, or None where there is."""
        return why_no_prefix_scores(self.model)

    def score(
        self,
        conversations: Sequence[Conversation],
        *,
        tokens: bool = False,
        truncated: bool = False,
        prototypes: int = 0,
        read: bool = False,
    ) -> list[Score]:
        """Score conversations.

        Parameters
        ----------
        conversations
            In any mix of forms.
        tokens
            Also the score after each token of the response.
        truncated
            With ``tokens``: score the response cut after each token, one pass for each; for any model.
        prototypes
            How many of those that weigh most in a score to name.
        read
            Also the text that was read.

        Raises
        ------
        ModelError
            If a conversation has no form, or one that this model cannot score, or token scores or prototypes are asked
            for where there are none.
        """
        self.refuse_unable(conversations, tokens=tokens, truncated=truncated, prototypes=prototypes)
        items = self.encode(conversations)
        found = self.finish(items, self.measure(items))
        return self.explain(items, found, tokens=tokens, truncated=truncated, prototypes=prototypes, read=read)

    def refuse_unable(
        self, conversations: Sequence[Conversation], *, tokens: bool, truncated: bool, prototypes: int
    ) -> None:
        """Refuse to tell what this model cannot, before anything is computed.

        Raises
        ------
        ModelError
            As `score`.
        """
        if tokens:
            _refuse_forms(conversations, "scores of tokens")
            if self.why_no_tokens is not None and (not truncated or self.model.reads_replies):
                cutting = "ask for truncated ones: the response cut after each token, one pass for each"
                raise ModelError(
                    "this model has no score per token" + ("" if truncated else " in one pass"),
                    got=self.why_no_tokens,
                    remedy=None if self.model.reads_replies else cutting,
                )
        if prototypes:
            _refuse_forms(conversations, "prototypes")
            if self.model.reads_replies:
                raise ModelError("a policy has no prototypes to explain a score by")
            self.model.explain_encoded([])

    def encode(self, conversations: Sequence[Conversation]) -> list[Item]:
        """Return conversations as token ids."""
        conversations = list(conversations)
        forms = [_form(one, row, len(conversations)) for row, one in enumerate(conversations)]
        self._refuse_text(forms)
        kinds: dict[tuple[str, int | None], list[int]] = {}
        for row, (form, one) in enumerate(zip(forms, conversations, strict=True)):
            kinds.setdefault((form, one.limit), []).append(row)
        made: dict[int, Encoded] = {}
        alone: Any = [None] * len(conversations)
        with self._tokenising:
            for (form, limit), rows in kinds.items():
                made |= dict(zip(rows, self._encoded([conversations[row] for row in rows], form, limit), strict=True))
            if self.model.reads_prompts:
                alone = [e.ids for e in self.model.encoder.encode_prompts([c.prompt for c in conversations])]
        return [Item(one, made[row], alone[row]) for row, one in enumerate(conversations)]

    def _encoded(self, some: list[Conversation], form: str, limit: int | None) -> list[Encoded]:
        """Encode conversations of one form and one limit."""
        encoder: Any = self.model.encoder
        if limit is not None:
            encoder.refuse_short(limit)
        found: list[Encoded]
        if form == "text":
            found = encoder.encode_text([c.text for c in some], limit)
        elif form == "ids":
            found = encoder.encode_ids([c.ids for c in some], limit)
        else:
            found = encoder.encode([c.prompt for c in some], [c.response for c in some])
        return found

    def _refuse_text(self, forms: Sequence[str]) -> None:
        """Refuse text where a score depends on where the prompt ends."""
        if any(form != "chat" for form in forms) and (self.model.reads_replies or self.model.reads_prompts):
            what = "a policy" if self.model.reads_replies else "a head that reads the prompt"
            raise ModelError(
                f"{what} must know where the prompt ends, which text that is templated already does not tell",
                expected="conversations: a prompt and a response",
                got="text" if "text" in forms else "token ids",
            )

    def measure(self, items: Sequence[Item]) -> Measured:
        """Return the raw numbers of items; those of the same tokens are computed once."""
        model, budget = self.model, self.token_budget
        ids = [item.encoded.ids for item in items]
        if model.reads_replies:
            starts = np.array([item.encoded.prompt_tokens for item in items], np.int64)
            model.refuse_empty(starts, np.array([len(own) for own in ids], np.int64))
            values = model.score_features(model.features(ids, starts, token_budget=budget))
            return Measured(values, values)
        alone = [item.alone for item in items] if model.reads_prompts else None
        if model.is_uncertain:
            values, spread = model.spread_encoded(ids, alone, token_budget=budget)
            return Measured(values, values, spread)
        evidence = model.score_encoded(ids, alone, token_budget=budget, native=True)
        return Measured(scores_in(evidence), evidence)

    def finish(self, items: Sequence[Item], measured: Measured) -> list[Score]:
        """Return scores of the items of one call.

        Raises
        ------
        NoNumber
            If a score is none.
        """
        deviations: Sequence[float | None] = [None] * len(items)
        lowest: Sequence[float | None] = deviations
        spread = measured.spread
        if spread is not None and len(items):
            spread = spread.against(_groups(items), self.model.usual_spread())
            deviations = spread.deviations().tolist()
            members = np.sqrt(spread.vectors.shape[1]) * spread.vectors
            lowest = (measured.values + members.min(axis=1)).tolist()
        wrong = np.flatnonzero(~np.isfinite(measured.values))
        if len(wrong):
            raise NoNumber(
                "the model gave a score that is no number",
                where=f"conversation {wrong[0] + 1} of {len(items)}",
                got=str(measured.values[wrong[0]]),
                remedy="look for weights that are not finite, or load the model in float32",
            )
        return [
            Score(
                value=float(measured.values[row]),
                std=deviations[row],
                lowest=lowest[row],
                cut_prompt=item.encoded.cut_prompt,
                cut_response=item.encoded.cut_reply,
                length=len(item.encoded.ids),
                fingerprint=self.fingerprint,
                evidence=measured.evidence[row],
                spread=measured[row : row + 1].spread,
            )
            for row, item in enumerate(items)
        ]

    def explain(
        self,
        items: Sequence[Item],
        scores: Sequence[Score],
        *,
        tokens: bool = False,
        truncated: bool = False,
        prototypes: int = 0,
        read: bool = False,
    ) -> list[Score]:
        """Return scores with what was asked for beside them; see `score`."""
        found = list(scores)
        if tokens:
            told = self._of_tokens(items, truncated)
            found = [replace(s, tokens=t, prefix_scores=v) for s, (t, v) in zip(found, told, strict=True)]
        if prototypes:
            ids = [item.encoded.ids for item in items]
            why = self.model.explain_encoded(ids, top=prototypes, token_budget=self.token_budget)
            found = [replace(s, prototypes=w) for s, w in zip(found, why, strict=True)]
        if read:
            with self._tokenising:
                texts = [self.model.encoder.tokenizer.decode(list(item.encoded.ids)) for item in items]
            found = [replace(s, read=text) for s, text in zip(found, texts, strict=True)]
        return found

    def _of_tokens(self, items: Sequence[Item], truncated: bool) -> list[tuple[list[str], list[float]]]:
        """Return the text of each token of the responses, and the score after each."""
        model, budget = self.model, self.token_budget
        encoded = [item.encoded for item in items]
        if truncated:
            values = [
                model.truncated_scores_encoded(item.encoded, item.conversation.prompt, token_budget=budget)
                for item in items
            ]
        else:
            values = model.prefix_scores_encoded(encoded, token_budget=budget)
        found = []
        with self._tokenising:
            for one, scores in zip(encoded, values, strict=True):
                ids = one.ids[one.prompt_tokens : one.prompt_tokens + len(scores) - 1]
                found.append((pieces(model.encoder.tokenizer, ids), [float(score) for score in scores]))
        return found

    def prefer(self, a: Score, b: Score) -> Preference:
        """Compare two scores of responses to one prompt."""
        margins, probabilities, stds = self.prefer_all([a, b])
        return Preference(float(margins[0, 1]), float(probabilities[0, 1]), None if stds is None else float(stds[0, 1]))

    def prefer_all(self, scores: Sequence[Score]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Compare all scores of responses to one prompt with each other.

        Returns
        -------
        tuple
            Margins, calibrated probabilities, and standard deviations of the margins where the model tells how sure it
            is, else None; of row over column, float64 ``[k, k]`` each.
        """
        k = len(scores)
        if k == 0:
            return np.zeros((0, 0)), np.zeros((0, 0)), None
        a, b = np.divmod(np.arange(k * k), k)
        evidence = np.stack([score.evidence for score in scores])
        if evidence.ndim > 1:
            margins = native_margins(evidence[a], evidence[b]).mean(axis=1)
        else:
            values = np.array([score.value for score in scores], np.float64)
            margins = values[a] - values[b]
        probabilities = calibrated_probability(margins, self.model.record.calibration)
        spreads = [score.spread for score in scores if score.spread is not None]
        stds = spreads[0].joined(*spreads[1:]).of_margins(a, b).reshape(k, k) if len(spreads) == k else None
        return margins.reshape(k, k), probabilities.reshape(k, k), stds


def _form(one: Conversation, row: int, count: int) -> str:
    """Return which of its forms a conversation has."""
    forms = {
        "chat": one.prompt is not None and one.response is not None,
        "text": one.text is not None,
        "ids": one.ids is not None,
    }
    given = [name for name, there in forms.items() if there]
    half = (one.prompt is None) != (one.response is None)
    if len(given) != 1 or half or (given == ["chat"] and one.limit is not None):
        raise ModelError(
            "a conversation comes in one form",
            where=f"conversation {row + 1} of {count}",
            expected="prompt and response, or text, or ids; a limit goes with the latter two",
            got=" and ".join(
                name for name in ("prompt", "response", "text", "ids", "limit") if getattr(one, name) is not None
            )
            or "none of them",
        )
    return given[0]


def _refuse_forms(conversations: Sequence[Conversation], what: str) -> None:
    if any(one.response is None for one in conversations):
        raise ModelError(
            f"{what} need a prompt and a response apart",
            got="text that is templated already",
            expected="prompt and response",
        )


def _groups(items: Sequence[Item]) -> np.ndarray:
    """Return the number of the prompt that each item answers, int64; texts stand alone."""
    known: dict[Any, int] = {}
    keys: list[Any] = []
    for row, item in enumerate(items):
        asked = item.conversation
        keys.append(asked.group or (row if asked.prompt is None else repr(asked.prompt)))
    return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)
