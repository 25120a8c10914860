"""From a conversation to token ids: template, end token, length and side of truncation, decided once and stored."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from assay.errors import ModelError
from assay.feedback.records import as_chat, as_messages, prompt_text
from assay.scorers.templates import Template

Prompt = str | Sequence[dict[str, Any]]
Reply = str | Sequence[dict[str, Any]]
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class ConversationSettings:
    """Everything that decides which tokens a conversation becomes; stored with the model.

    Attributes
    ----------
    template, template_source
        Name of the template, and the Jinja source of a custom one.
    end_token
        Token that every sequence must end with, added where missing; None: the text ends as the template ends it.
    max_length_tokens
        Longest sequence. A longer one loses prompt tokens first, then the end of the reply.
    truncation
        Which side of the prompt is cut: ``"left"`` (the oldest turns) or ``"right"`` (the end of a long document).
    ends_cut
        Whether a reply that lost its end still ends as every sequence does: what reads scores there needs that, and
        what writes would learn to stop there.
    """

    template: str
    max_length_tokens: int
    end_token: str | None = None
    truncation: Literal["left", "right"] = "left"
    template_source: str | None = None
    ends_cut: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Encoded:
    """Token ids of one conversation.

    ``prompt_tokens`` of the ids come before the reply. ``cut_prompt`` and ``cut_reply`` count the tokens that
    truncation took.
    """

    ids: list[int]
    prompt_tokens: int
    cut_prompt: int = 0
    cut_reply: int = 0


class ConversationEncoder:
    """Turn conversations, or text already templated, into token ids.

    Every sequence starts with ``leading_token`` (empty: with none) and ends with the end token of the settings; both
    are added only where they are missing. A blank that a template writes last before a reply belongs to the reply: of
    most tokenizers it is part of the reply's first token, and which replies those are must not tell where they begin.

    A special token written inside a message is that token, as in every tool that tokenises rendered text: clean what
    strangers wrote before it is scored.

    Raises
    ------
    ModelError
        If the settings name an unknown template or token, or a maximum length too small to hold a reply.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: ConversationSettings) -> None:
        self.tokenizer, self.settings = tokenizer, settings
        self.template = Template(tokenizer, settings.template, settings.template_source)
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._end_id = self._token_id(settings.end_token) if settings.end_token else None
        until, after = self.template.frame()
        self.leading_token = self._leading_token(until)
        self._bos_id = self._token_id(self.leading_token) if self.leading_token else None
        self._tail = self._tail_of(until, after)
        self.refuse_short(settings.max_length_tokens)

    def refuse_short(self, limit: int) -> None:
        """Refuse a maximum length that holds no reply with what stands around it.

        Raises
        ------
        ModelError
            If it is below 8 tokens, or below what ends every sequence and two more.
        """
        smallest = max(8, 2 + len(self._tail))
        if limit < smallest:
            raise ModelError("the maximum length is too small", expected=f"at least {smallest} tokens", got=str(limit))

    @property
    def tail(self) -> list[int]:
        """Tokens that end every sequence: what the template writes after a reply, and the end token."""
        return list(self._tail)

    def _leading_token(self, rendered: str) -> str:
        """Return the leading token: what the template writes, or what the tokenizer's plain encoding starts with."""
        written = (t for t in (self.tokenizer.bos_token, self.tokenizer.cls_token) if t and rendered.startswith(t))
        return next(written, self.template.bos)

    def _tail_of(self, until: str, after: str) -> list[int]:
        """Return the tokens that end every sequence: what the template writes after a reply, and the end token."""
        text = until + after
        batch = self._ids([text])
        ids = list(batch["input_ids"][0])
        return self._with_end(ids[_token_at(batch, 0, len(until), len(text), len(ids)) :])

    def _token_id(self, token: str) -> int:
        index = self.tokenizer.convert_tokens_to_ids(token)
        if index is None or (index == self.tokenizer.unk_token_id and token != self.tokenizer.unk_token):
            raise ModelError(f"the tokenizer does not know the token {token!r}", expected="one of its special tokens")
        return int(index)

    def render(self, prompt: Prompt, reply: Reply) -> str:
        """Return the text that `encode` tokenises, without an added end token; a string is one message."""
        return self.template.parts(chat_of(prompt), reply_of(reply))[0]

    def encode(self, prompts: Sequence[Prompt], replies: Sequence[Reply]) -> list[Encoded]:
        """Encode conversations, one reply for each prompt.

        Raises
        ------
        ModelError
            If the template refuses a conversation, or a conversation has no token at all.
        """
        parts = []
        former: Prompt | None = None
        for prompt, reply in zip(prompts, replies, strict=True):
            if former is None or prompt is not former:
                chat = chat_of(prompt)
                openings, former = self.template.openings(chat), prompt
            parts.append(self.template.parts(chat, reply_of(reply), openings))
        return self._tokenise(parts)

    def reply_ends(self, prompt: Prompt, reply: str) -> np.ndarray | None:
        """Return after how many characters of a reply each of its tokens ends, int64; leading blanks do not count.

        By the tokenizer's own offsets, so that texts count as they were given, whatever the tokenizer makes of them.
        Of tokens that are parts of one character only the last ends behind it, the others before it.

        Parameters
        ----------
        prompt, reply
            As of `encode`.

        Returns
        -------
        numpy.ndarray or None
            Of the reply's tokens before any truncation, what the template writes behind them included; None: this
            tokenizer tells no offsets.
        """
        if not self.tokenizer.is_fast:
            return None
        text, _, start = self.template.parts(chat_of(prompt), reply_of(reply))
        batch = self._ids([text])
        offsets = np.array(batch.encodings[0].offsets, np.int64).reshape(-1, 2)
        offsets = offsets[_reply_at(batch, 0, text, start, len(offsets)) :]
        # a template may write more before a reply than a blank (an empty train of thought)
        begun = start + max(text[start:].find(reply.strip()), 0)
        ends = np.maximum(np.maximum.accumulate(offsets[:, 1]) - begun, 0)
        # equal ends are those of parts: the last of them is at the end, the others are where the former character ends
        begins = np.flatnonzero(np.diff(ends, prepend=-1))
        former = np.concatenate([[0], ends])[begins].repeat(np.diff(np.append(begins, len(ends))))
        return np.where(np.diff(ends, append=np.iinfo(np.int64).max) == 0, former, ends)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[Encoded]:
        """Encode prompts alone, each as a reply to nothing; one that is too long is cut on the side of prompts."""
        return self.encode_text([self.render("", prompt_text(as_messages(prompt))) for prompt in prompts])

    def encode_text(self, texts: Sequence[str], limit: int | None = None) -> list[Encoded]:
        """Encode text that is templated already: no template, no second leading token, end token only where missing.

        A text over the maximum length, or a ``limit`` below it, is cut on the left (right with
        ``truncation="right"``), its leading token kept.
        """
        return self._tokenise([(text, len(text), len(text)) for text in texts], limit)

    def encode_ids(self, sequences: Sequence[Sequence[int]], limit: int | None = None) -> list[Encoded]:
        """Encode token ids as text that is templated already: what begins and ends them is added only where missing.

        Raises
        ------
        ModelError
            If a sequence is empty, or holds what is no token of the tokenizer.
        """
        encoded = []
        for row, given in enumerate(sequences):
            ids = self._with_end(self._with_bos([int(token) for token in given]))
            wrong = next((token for token in ids if not 0 <= token < len(self.tokenizer)), None)
            if wrong is not None or not given:
                raise ModelError(
                    "these are no token ids of this model",
                    where=f"text {row + 1} of {len(sequences)}",
                    expected=f"one or more whole numbers from 0 to {len(self.tokenizer) - 1}",
                    got="none" if wrong is None else str(wrong),
                )
            encoded.append(self._truncate(ids, len(ids), len(ids), limit))
        return encoded

    def _ids(self, texts: list[str]) -> Any:
        try:
            # verbose=False: lengths beyond the model's limit are handled, and counted, below
            return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        except (TypeError, UnicodeEncodeError) as error:
            row = next((row for row, text in enumerate(texts) if _SURROGATE.search(text)), None)
            if row is None:
                raise
            raise ModelError(
                "a text holds half of a surrogate pair, which is no character",
                where=f"text {row + 1} of {len(texts)}",
                got=ascii(texts[row][:80]),
                remedy="read the source as UTF-8, or drop such characters",
            ) from error

    def _with_bos(self, ids: list[int]) -> list[int]:
        return ids if self._bos_id is None or ids[:1] == [self._bos_id] else [self._bos_id, *ids]

    def _with_end(self, ids: list[int]) -> list[int]:
        return ids if self._end_id is None or ids[-1:] == [self._end_id] else [*ids, self._end_id]

    def _tokenise(self, parts: list[tuple[str, int, int]], limit: int | None = None) -> list[Encoded]:
        if not parts:
            return []
        batch = self._ids([text for text, _, _ in parts])
        encoded = []
        for row, (text, body, start) in enumerate(parts):
            ids = list(batch["input_ids"][row])
            at_reply = _reply_at(batch, row, text, start, len(ids))
            at_body = min(_token_at(batch, row, body, len(text), len(ids)), at_reply)
            shift = len(self._with_bos(ids)) - len(ids)
            ids = self._with_end(self._with_bos(ids))
            if not ids:
                raise ModelError("a conversation has no token at all", got=repr(text), remedy="set --end-token")
            encoded.append(self._truncate(ids, at_body + shift, at_reply + shift, limit))
        return encoded

    def _truncate(self, ids: list[int], body: int, reply: int, limit: int | None = None) -> Encoded:
        """Cut the prompt's own tokens ``[keep, body)`` first, then the reply from its end.

        What ends the reply stays where the settings say so (``ends_cut``).
        """
        limit = min(limit or self.settings.max_length_tokens, self.settings.max_length_tokens)
        over = len(ids) - limit
        if over <= 0:
            return Encoded(ids, reply)
        tail = len(self._tail) if self._tail and ids[-len(self._tail) :] == self._tail else 1
        keep = 1 if ids[0] == self._bos_id else 0
        body = min(body, len(ids) - tail)
        cut = min(over, max(body - keep, 0))
        first = keep if self.settings.truncation == "left" else body - cut
        ids = ids[:first] + ids[first + cut :]
        if cut < over:
            ids = ids[: limit - tail] + ids[-tail:] if self.settings.ends_cut else ids[:limit]
        return Encoded(ids, min(reply - cut, len(ids)), cut_prompt=cut, cut_reply=over - cut)


def warn_of_lost_instructions(encoder: ConversationEncoder, prompts: Iterable[Prompt]) -> None:
    """Say how many conversations lose their system message to a template that does not write it before a reply."""
    if encoder.template.keeps_system:
        return
    lost = sum(any(turn["role"] == "system" for turn in prompt) for prompt in prompts if not isinstance(prompt, str))
    if lost:
        warnings.warn(
            f"the template {encoder.settings.template!r} leaves out the system message of {lost} conversations: the "
            "model never sees it (--template hh writes it, and so may a .jinja file)",
            stacklevel=3,
        )


def _token_at(batch: Any, row: int, position: int, end: int, length: int) -> int:
    """Return the index of the first token that reaches beyond character ``position`` (spaces may have none)."""
    for char in range(position, min(position + 64, end)):
        token = batch.char_to_token(row, char)
        if token is not None:
            return int(token)
    return length


def _reply_at(batch: Any, row: int, text: str, start: int, length: int) -> int:
    """Return the index of a reply's first token: that of the blank before it, where that is a token of its own."""
    first = _token_at(batch, row, start, len(text), length)
    begin = start - text[:start].endswith(" ")
    # where offsets leave blanks out, those of tokens of blanks alone are empty, and no character leads to them
    while first and (batch.encodings[row].token_to_chars(first - 1) or (-1, -1))[0] >= begin:
        first -= 1
    return first


def chat_of(prompt: Prompt) -> list[dict[str, Any]]:
    """Return a prompt as the message dicts that templates read; a string is one user message.

    Raises
    ------
    ModelError
        If it is neither text nor a list of messages.
    """
    if not isinstance(prompt, str) and not all(isinstance(turn, dict) and "role" in turn for turn in prompt):
        raise ModelError(
            "a conversation is neither text nor a list of messages",
            expected="a string, or a list such as [{'role': 'user', 'content': '…'}]",
            got=repr(prompt)[:80],
            remedy="pass one such list for each conversation: score([messages], [reply])",
        )
    return as_chat(as_messages(prompt))


def reply_of(reply: Reply) -> list[dict[str, Any]]:
    """Return a reply as message dicts; a string is one assistant message.

    Raises
    ------
    ModelError
        If it holds no message: an empty reply is an empty text.
    """
    if not isinstance(reply, str) and not reply:
        raise ModelError("a reply holds no message", expected="a text, or one message or more", got="an empty list")
    return [{"role": "assistant", "content": reply}] if isinstance(reply, str) else chat_of(reply)


def same_length(*columns: Sequence[Any]) -> None:
    """Refuse single texts, and columns that differ in number."""
    if any(isinstance(column, str) for column in columns):
        raise ModelError(
            "a single text came where a list of texts belongs",
            expected="lists of the same length",
            remedy="score([prompt], [response])",
        )
    if len({len(column) for column in columns}) != 1:
        raise ModelError(
            "prompts and responses differ in number",
            expected="lists of the same length",
            got=" and ".join(str(len(column)) for column in columns),
        )


def warn_truncated(encoded: Sequence[Encoded]) -> None:
    """Say how many texts lost tokens."""
    prompts = sum(e.cut_prompt > 0 for e in encoded)
    replies = sum(e.cut_reply > 0 for e in encoded)
    if prompts or replies:
        warnings.warn(
            f"{len(encoded)} texts, {sum(e.cut_prompt > 0 or e.cut_reply > 0 for e in encoded)} of them longer than "
            f"the maximum length: {prompts} lost prompt tokens, {replies} lost part of the response",
            stacklevel=3,
        )
