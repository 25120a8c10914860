"""Conversations as they come: HH text, message lists, prompts that hide inside the two sides of a pair."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from assay.feedback.fields import shown, unpack
from assay.feedback.problems import Dropped, RowError
from assay.feedback.records import Message, as_messages, identity, message, prompt_text

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
PROMPTS_DIFFER = "prompts differ"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_ROLE_KEYS = {name: name for name in ("user", "assistant", "system", "tool")}
_ROLE_KEYS |= {"human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
#: How pandas writes a list of messages into a csv.
_PYTHON_TEXT = re.compile(r"^\[\{'(role|content|from|value)': ")
ENDS_WITH_USER = "the user's last turn is kept in the response"


class Response(NamedTuple):
    """The text of a response and, where it is more than one plain assistant message, its messages as JSON."""

    text: str
    messages: str | None = None


class HHSide(NamedTuple):
    """One side of an HH pair, cut at its last assistant marker."""

    prompt: str
    response: str


def looks_like_hh(value: Any) -> bool:
    """Tell whether a cell is a dialogue in HH's text layout."""
    return isinstance(value, str) and value.lstrip("\n").startswith("Human:") and "\n\nAssistant:" in value


def is_open_hh(value: Any) -> bool:
    """Tell whether a cell is an HH dialogue that waits for the assistant's answer."""
    return looks_like_hh(value) and value.rstrip().endswith(ASSISTANT.strip())


def cut_hh(dialogue: str, column: str) -> HHSide:
    """Cut a dialogue at its last assistant marker; the marker's one following space belongs to the layout."""
    prompt, marker, response = dialogue.rpartition(ASSISTANT)
    if not marker:
        raise RowError(
            "no assistant turn", column=column, expected=f"a dialogue with {ASSISTANT!r}", got=shown(dialogue)
        )
    return HHSide(prompt, response.removeprefix(" "))


def hh_messages(prompt: str, column: str) -> list[Message]:
    """Turn the text before the last assistant marker into messages."""
    pieces = _TURN.split(prompt if prompt.startswith("\n\n") else "\n\n" + prompt.lstrip("\n"))
    if pieces[0].strip() or len(pieces) < 3:
        raise RowError(
            "not an HH dialogue",
            column=column,
            expected=f"text that begins with {HUMAN!r}",
            got=shown(prompt),
            remedy="name the prompt column with a mapping",
        )
    return [message(_ROLES[r], body.removeprefix(" ")) for r, body in zip(pieces[1::2], pieces[2::2], strict=True)]


def hh_group(dialogue: str) -> str:
    """Return the split group of HH: the identity of the text before the first assistant marker."""
    first = dialogue.partition(ASSISTANT)[0].lstrip("\n").removeprefix("Human:").removeprefix(" ")
    return identity([message("user", first)])


def is_chat(value: Any) -> bool:
    """Tell whether a cell is a non-empty list of messages."""
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value)
    )


def chat(value: Any, column: str) -> list[Message]:
    """Return a message list (keys role/content or from/value) as messages."""
    value = unpack(value)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(turn, dict) for turn in value):
        raise RowError("wrong type", column=column, expected="a list of messages", got=shown(value))
    return as_messages([_turn(turn, f"{column}[{i}]") for i, turn in enumerate(value)])


def _turn(turn: dict[str, Any], column: str) -> dict[str, Any]:
    if "role" not in turn and "from" in turn:
        rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
        turn = {"role": turn["from"], "content": turn.get("value"), **rest}
    content = turn.get("content")
    if isinstance(content, list):
        content = _text_parts(content, f"{column}.content")
    if not isinstance(turn.get("role"), str) or not isinstance(content, (str, type(None))):
        raise RowError(
            "not a message", column=column, expected='{"role": text, "content": text}', got=shown(turn, limit=80)
        )
    role = turn["role"]
    return {**turn, "role": _ROLE_KEYS.get(role.lower(), role), "content": content or ""}


def _text_parts(parts: list[Any], column: str) -> str:
    if all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts
    ):
        return "".join(part["text"] for part in parts)
    raise RowError("not text", column=column, expected="text parts only", got=shown(parts, limit=80))


def unpack_chat(value: Any, column: str) -> Any:
    """Return the message list that a text cell holds as JSON (csv); any other text is left as it is.

    Raises
    ------
    RowError
        If it holds messages as Python writes them: read as text, they would be what is said.
    """
    if isinstance(value, str) and _PYTHON_TEXT.match(value):
        raise RowError(
            "messages were saved as Python text",
            column=column,
            expected="a list of messages, or JSON text of one",
            got=shown(value),
            remedy="save the table as parquet or jsonl; csv keeps no lists",
        )
    parsed = unpack(value)
    return parsed if is_chat(parsed) else value


def prompt_messages(value: Any, column: str) -> list[Message]:
    """Return a prompt cell (text or messages) as messages; HH text that ends in an open assistant turn is parsed."""
    value = unpack_chat(value, column)
    if isinstance(value, str):
        if is_open_hh(value):
            return hh_messages(value.rpartition(ASSISTANT)[0], column)
        return [message("user", value)]
    if is_chat(value) or isinstance(value, dict):
        return chat(value, column)
    raise RowError("wrong type", column=column, expected="text or a list of messages", got=shown(value))


def response_of(value: Any, column: str) -> Response:
    """Return a response cell (text, one message or several) as text and, if need be, its messages."""
    value = unpack_chat(value, column)
    if isinstance(value, str):
        return Response(value)
    if is_chat(value) or isinstance(value, dict):
        turns = chat(value, column)
        if turns[0]["role"] in ("user", "system"):
            raise RowError(
                "a response begins with the prompt",
                column=column,
                expected="the messages of the assistant alone",
                got=f"a first message by the {turns[0]['role']}",
                remedy="columns chosen and rejected may hold whole conversations: rename them, without a mapping",
            )
        return from_turns(turns)
    raise RowError("wrong type", column=column, expected="text or a list of messages", got=shown(value))


def from_turns(turns: Sequence[Message]) -> Response:
    """Join the turns of a response; more than one plain assistant message is kept as JSON beside the text."""
    if len(turns) == 1 and turns[0]["role"] == "assistant" and turns[0]["extra"] is None:
        return Response(turns[0]["content"])
    return Response(prompt_text(turns), json.dumps(list(turns), ensure_ascii=False))


def _same_turn(one: Message, other: Message) -> bool:
    """Tell whether two messages say the same, in whatever order their further keys come."""
    plain = one["role"] == other["role"] and one["content"] == other["content"]
    return plain and json.loads(one["extra"] or "{}") == json.loads(other["extra"] or "{}")


def split_sides(
    chosen: list[Message], rejected: list[Message], column: str
) -> tuple[list[Message], Response, Response]:
    """Cut two whole conversations into their shared prompt and two responses.

    The prompt is the common beginning; the first message in which the sides differ must be the assistant's on both
    sides, otherwise the prompts differ. A response may thus be several messages.
    """
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and _same_turn(chosen[shared], rejected[shared]):
        shared += 1
    for side in (chosen, rejected):
        if not side or side[-1]["role"] != "assistant":
            raise RowError(
                "no assistant turn",
                column=column,
                expected="a last message by the assistant",
                got=side[-1]["role"] if side else "no message",
            )
    if chosen[shared]["role"] != "assistant" or rejected[shared]["role"] != "assistant":
        raise Dropped(PROMPTS_DIFFER)
    while shared and chosen[shared - 1]["role"] == "assistant":
        shared -= 1
    return chosen[:shared], from_turns(chosen[shared:]), from_turns(rejected[shared:])
