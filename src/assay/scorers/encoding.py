"""A data set of comparisons as token ids: every distinct response encoded once, on disk, with what truncation cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher

from assay.feedback.pairs import Pairs, pairs
from assay.feedback.records import as_chat
from assay.scorers.conversation import ConversationEncoder, warn_of_lost_instructions
from assay.scorers.preference import native_margins
from assay.scorers.provenance import conversation_fingerprint
from assay.scorers.uncertainty import Spread

_BATCH_ROWS = 256
_COLUMNS = Features(
    {
        "ids": List(List(Value("int32"))),
        "cut_prompt": List(Value("int32")),
        "cut_reply": List(Value("int32")),
        "reply_start": List(Value("int32")),
    }
)


class Sides(Protocol):
    """Pairs of responses: the record of each, and the numbers of the two responses in it, int64 ``[E]``."""

    @property
    def row(self) -> np.ndarray:
        """Records."""

    @property
    def a(self) -> np.ndarray:
        """First responses."""

    @property
    def b(self) -> np.ndarray:
        """Second responses."""


@dataclass(frozen=True)
class EncodedRecords:
    """Comparisons as token ids.

    Attributes
    ----------
    rows
        One row per record; column ``ids`` holds the token ids of each response with its prompt.
    pairs
        The judgements, without those whose two texts became the same tokens.
    offsets
        ``[records + 1]``: response j of record i is text ``offsets[i] + j``.
    lengths
        ``[texts]``: tokens of each text.
    cut_prompt, cut_reply
        Texts that lost prompt tokens, and texts that lost part of the reply.
    dropped_identical
        Judgements dropped because truncation or tokenisation left both sides equal.
    prompts
        Whether the last text of every record is its prompt alone, as a reply to nothing.
    reply_starts
        int64 ``[texts]``: where in its tokens the reply of each text begins.
    """

    rows: Dataset
    pairs: Pairs
    offsets: np.ndarray
    lengths: np.ndarray
    cut_prompt: int
    cut_reply: int
    dropped_identical: int
    prompts: bool = False
    reply_starts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @cached_property
    def _tokens(self) -> list[np.ndarray]:
        """Token ids of all texts end to end, one array for each piece of the table; a view, nothing is read yet."""
        return [chunk.flatten().flatten().to_numpy() for chunk in self.rows.with_format("arrow")[:]["ids"].chunks]

    @cached_property
    def _starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Place of every text in the tokens of the whole table, and of every piece."""
        pieces = [0, *np.cumsum([len(tokens) for tokens in self._tokens])]
        return np.concatenate([[0], np.cumsum(self.lengths)]), np.array(pieces)

    def text(self, index: int) -> np.ndarray:
        """Return the token ids of one text, int32."""
        starts, pieces = self._starts
        # an empty text at the seam of two pieces may be cut from either
        piece = min(int(np.searchsorted(pieces, starts[index], side="right")), len(self._tokens)) - 1
        return self._tokens[piece][starts[index] - pieces[piece] : starts[index + 1] - pieces[piece]]

    def ids(self, record: int) -> list[np.ndarray]:
        """Return the token ids of all responses of one record."""
        return [self.text(index) for index in range(self.offsets[record], self.offsets[record + 1])]

    @property
    def prompt_of(self) -> np.ndarray | None:
        """Number of the text that is each text's prompt alone, int64 ``[texts]``; None where there are none."""
        return np.repeat(self.offsets[1:] - 1, np.diff(self.offsets)) if self.prompts else None

    @property
    def responses(self) -> np.ndarray:
        """Mask ``[texts]`` of the texts that are responses."""
        mask = np.ones(len(self.lengths), bool)
        if self.prompts:
            mask[self.offsets[1:] - 1] = False
        return mask

    def select(self, records: np.ndarray) -> EncodedRecords:
        """Return some of the records, sorted int64 numbers; what truncation cost is still that of all."""
        kept = np.zeros(len(self.offsets) - 1, bool)
        kept[records] = True
        number = np.cumsum(kept) - 1
        texts = np.repeat(kept, np.diff(self.offsets))
        given = self.pairs.take(np.flatnonzero(kept[self.pairs.row]))
        return replace(
            self,
            rows=self.rows.select(records),
            pairs=replace(given, row=number[given.row], data=given.data.select(records)),
            offsets=np.concatenate([[0], np.cumsum(np.diff(self.offsets)[kept])]),
            lengths=self.lengths[texts],
            reply_starts=self.reply_starts[texts] if len(self.reply_starts) else self.reply_starts,
        )

    def texts_of(self, records: np.ndarray) -> np.ndarray:
        """Return the numbers of all texts of some records, in order."""
        return np.concatenate([np.arange(self.offsets[r], self.offsets[r + 1]) for r in records])

    def margins(self, values: np.ndarray, view: Sides | None = None) -> np.ndarray:
        """Return margins per judgement, ``[E]`` or ``[E, members]``, float64: differences of a score per text.

        From evidence ``[texts, members, c]`` of heads whose margins are more than that (`score_records` gives it) they
        are native. ``view`` names other judgements of the same records; None: `pairs`.
        """
        given: Sides = self.pairs if view is None else view
        a, b = (self.offsets[given.row] + side for side in (given.a, given.b))
        if values.ndim == 3:
            found = native_margins(values[a], values[b])
            return found[:, 0] if found.shape[1] == 1 else found
        scores = np.asarray(values, np.float64)
        return np.asarray(scores[a] - scores[b])


def encode_records(data: Dataset, encoder: ConversationEncoder, *, prompts: bool = False) -> EncodedRecords:
    """Encode the responses of every record; repeatable work is kept in the datasets cache.

    ``prompts``: and its prompt alone, for scorers that read it (`RewardModel.reads_prompts`).
    """
    # the fingerprint knows probes only; two tokenizers that agree on them may still differ on this text
    vocabulary = repr(sorted(encoder.tokenizer.get_vocab().items()))
    key = Hasher.hash([data._fingerprint, conversation_fingerprint(encoder), vocabulary, prompts, "encode-7"])
    rows = data.map(
        _encode_batch,
        fn_kwargs={"encoder": encoder, "with_prompts": prompts},
        batched=True,
        batch_size=_BATCH_ROWS,
        remove_columns=data.column_names,
        features=_COLUMNS,
        new_fingerprint=key,
        desc="Tokenising",
    )
    if not encoder.template.keeps_system:
        warn_of_lost_instructions(encoder, (row["prompt"] for row in data.select_columns(["prompt"])))
    counts: list[int] = []
    lengths: list[int] = []
    digests: list[int] = []
    starts: list[int] = []
    cut_prompt = cut_reply = 0
    for batch in rows.iter(_BATCH_ROWS):
        for ids in batch["ids"]:
            counts.append(len(ids))
            lengths.extend(len(x) for x in ids)
            digests.extend(hash(tuple(x)) for x in ids)
        starts.extend(start for row in batch["reply_start"] for start in row)
        cut_prompt += sum(n > 0 for row in batch["cut_prompt"] for n in row)
        cut_reply += sum(n > 0 for row in batch["cut_reply"] for n in row)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    view = pairs(data)
    tokens = np.array(digests, np.int64)
    same = tokens[offsets[view.row] + view.a] == tokens[offsets[view.row] + view.b]
    return EncodedRecords(
        rows=rows,
        pairs=view.take(np.flatnonzero(~same)),
        offsets=offsets,
        lengths=np.array(lengths, np.int64),
        cut_prompt=cut_prompt,
        cut_reply=cut_reply,
        dropped_identical=int(same.sum()),
        prompts=prompts,
        reply_starts=np.array(starts, np.int64),
    )


def _encode_batch(
    batch: dict[str, list[Any]], encoder: ConversationEncoder, with_prompts: bool
) -> dict[str, list[Any]]:
    import json

    prompts: list[Sequence[dict[str, Any]]] = []
    replies: list[Any] = []
    counts = []
    for prompt, responses, packed in zip(batch["prompt"], batch["responses"], batch["response_messages"], strict=True):
        chat = as_chat(prompt)
        counts.append(len(responses))
        for text, messages in zip(responses, packed or [None] * len(responses), strict=True):
            prompts.append(chat)
            replies.append(json.loads(messages) if messages else text)
    encoded = iter(encoder.encode(prompts, replies))
    out: dict[str, list[Any]] = {"ids": [], "cut_prompt": [], "cut_reply": [], "reply_start": []}
    for count in counts:
        part = [next(encoded) for _ in range(count)]
        out["ids"].append([e.ids for e in part])
        out["cut_prompt"].append([e.cut_prompt for e in part])
        out["cut_reply"].append([e.cut_reply for e in part])
        out["reply_start"].append([e.prompt_tokens for e in part])
    if with_prompts:
        for row, alone in enumerate(encoder.encode_prompts(batch["prompt"])):
            for name in out:
                out[name][row].append(alone.prompt_tokens if name == "reply_start" else getattr(alone, name))
    return out


def score_records(
    model: Any,
    records: EncodedRecords,
    *,
    dtype: Any = None,
    token_budget: int = 8192,
    texts_at_once: int = 4096,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Score every text of a data set in order, chunk by chunk; float32 ``[texts]`` or ``[texts, members]``.

    Heads whose margins are more than differences of scores give evidence ``[texts, members, c]`` for
    `EncodedRecords.margins`; `scores_in` takes the scores out of it. ``reference`` ``[texts]``: of policies, what a
    reference says of each reply, where that was computed before.
    """
    by_states = model.reads_prompts or model.reads_replies
    compute = model.features if by_states else partial(model.score_encoded, native=True)
    parts = []
    for start in range(0, len(records.lengths), texts_at_once):
        chosen = slice(start, min(start + texts_at_once, len(records.lengths)))
        ids = [records.text(index) for index in range(chosen.start, chosen.stop)]
        more = {"starts": records.reply_starts[chosen]} if model.reads_replies else {}
        parts.append(compute(ids, dtype=dtype, token_budget=token_budget, **more))
    if not parts:
        return np.zeros(0, np.float32)
    found = np.concatenate(parts)
    if reference is not None:
        found[:, 1] = reference
    return model.score_features(found, records.prompt_of, native=True) if by_states else found


def scores_in(values: np.ndarray) -> np.ndarray:
    """Return scores ``[texts]`` or ``[texts, members]`` of what `score_records` gave."""
    if values.ndim < 3:
        return values
    scores = values[..., -1]
    return scores[:, 0] if scores.shape[1] == 1 else scores


def mean_of_members(values: np.ndarray) -> np.ndarray:
    """Return the mean ``[E]`` of scores or margins ``[E]`` or ``[E, members]``."""
    return values.mean(axis=1) if values.ndim == 2 else values


def spread_records(
    model: Any, records: EncodedRecords, *, token_budget: int = 8192, texts_at_once: int = 4096
) -> tuple[np.ndarray, Spread]:
    """Score every text with how sure the model is: scores ``[texts]`` and their spread."""
    if model.reads_prompts:
        ids = [records.text(index) for index in range(len(records.lengths))]
        found: tuple[np.ndarray, Spread] = model.spread_features(
            model.features(ids, token_budget=token_budget), records.prompt_of
        )
        return found
    parts = []
    for start in range(0, len(records.lengths), texts_at_once):
        ids = [records.text(index) for index in range(start, min(start + texts_at_once, len(records.lengths)))]
        parts.append(model.spread_encoded(ids, token_budget=token_budget))
    (_, first), *rest = parts
    return np.concatenate([scores for scores, _ in parts]), first.joined(*(spread for _, spread in rest))
