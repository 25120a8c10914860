"""The one record: a prompt, its responses, and every judgement among them.

A *record* is one row per prompt. Each judgement is an edge between two of its responses (repeated judgements are
separate edges). Two simpler kinds stand beside it: *ratings* (one response with a grade or a good/bad label) and
*prompts* (for reinforcement learning, with an optional ground truth). All three are Arrow schemas on ``datasets``, the
same for every source, so that data sets concatenate, stream and memory-map.

A prompt that arrives as a plain string is one user message; a response is the text of one assistant message. A
response that is more than that (tool calls, several messages) keeps its messages as JSON in ``response_messages``, and
its joined text in ``responses``.

``meta`` is JSON for what a reader does not understand: ``row`` (cells of the source row), ``responses`` (a list with
the cells of each response) and, where rows of one prompt were merged, ``rows`` (what differs between them, in source
order).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from datasets import Dataset, Features, List, Value

Kind = Literal["comparisons", "ratings", "prompts"]


class Message(TypedDict):
    """One turn. ``extra`` holds whatever else the turn carried (tool calls, a name) as JSON, or None."""

    role: str
    content: str
    extra: str | None


class Edge(TypedDict):
    """One judgement: response ``a`` against response ``b``.

    ``p`` is the target P(a better than b) in [0, 1] (0.5: a tie), ``m`` the additive margin in score units, ``w >= 0``
    the weight, ``confidence`` how sure the judge was (zero or more, in the source's own unit).
    """

    a: int
    b: int
    p: float
    m: float
    w: float
    source: str
    annotator: str | None
    confidence: float | None
    round: int | None


class Grade(TypedDict):
    """One rating of one response on one dimension; ``value`` None: not rated."""

    dimension: str
    value: float | None


_MESSAGE = {"role": Value("string"), "content": Value("string"), "extra": Value("string")}
_GRADE = {"dimension": Value("string"), "value": Value("float64")}

#: Schema of comparisons. ``edges[].a`` and ``.b`` index ``responses``.
COMPARISONS = Features(
    {
        "prompt": List(_MESSAGE),
        "responses": List(Value("string")),
        "response_messages": List(Value("string")),
        "grades": List(List(_GRADE)),
        "edges": List(
            {
                "a": Value("int32"),
                "b": Value("int32"),
                "p": Value("float64"),
                "m": Value("float64"),
                "w": Value("float64"),
                "source": Value("string"),
                "annotator": Value("string"),
                "confidence": Value("float64"),
                "round": Value("int32"),
            }
        ),
        "prompt_id": Value("string"),
        "split_group": Value("string"),
        "meta": Value("string"),
    }
)

#: Schema of ratings. Exactly one of ``grade`` and ``label`` (True: good) is set; ``step`` counts a solution's steps.
RATINGS = Features(
    {
        "prompt": List(_MESSAGE),
        "response": Value("string"),
        "dimension": Value("string"),
        "grade": Value("float64"),
        "label": Value("bool"),
        "step": Value("int32"),
        "source": Value("string"),
        "annotator": Value("string"),
        "prompt_id": Value("string"),
        "split_group": Value("string"),
        "meta": Value("string"),
    }
)

#: Schema of prompts for reinforcement learning.
PROMPTS = Features(
    {
        "prompt": List(_MESSAGE),
        "ground_truth": Value("string"),
        "source": Value("string"),
        "prompt_id": Value("string"),
        "split_group": Value("string"),
        "meta": Value("string"),
    }
)

SCHEMAS: dict[Kind, Features] = {"comparisons": COMPARISONS, "ratings": RATINGS, "prompts": PROMPTS}


def kind_of(data: Dataset) -> Kind:
    """Name the kind of a data set by its columns.

    Raises
    ------
    ValueError
        If the columns are those of none of the three kinds.
    """
    columns = set(data.column_names)
    for kind, schema in SCHEMAS.items():
        if set(schema) <= columns:
            return kind
    raise ValueError(f"columns {sorted(columns)} are neither comparisons, ratings nor prompts")


def message(role: str, content: str, **extra: Any) -> Message:
    """Build one message; keyword arguments other than None go to ``extra``, as JSON."""
    rest = {key: value for key, value in extra.items() if value is not None}
    return {
        "role": role,
        "content": content,
        "extra": json.dumps(rest, ensure_ascii=False) if rest else None,
    }


def as_messages(prompt: str | Sequence[dict[str, Any]]) -> list[Message]:
    """Turn a string or a message list (any extra keys) into messages; a string is one user message."""
    if isinstance(prompt, str):
        return [message("user", prompt)]
    turns = []
    for turn in prompt:
        rest = {k: v for k, v in turn.items() if k not in ("role", "content", "extra")}
        rest = {**_unpacked(turn.get("extra")), **rest}
        turns.append(message(str(turn["role"]), turn.get("content") or "", **rest))
    return turns


def _unpacked(extra: Any) -> dict[str, Any]:
    """Return what ``extra`` holds; what `message` did not write is kept under its own name."""
    if extra is None:
        return {}
    try:
        found = json.loads(extra) if isinstance(extra, str) else None
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"extra": extra}


def as_chat(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Turn stored messages back into the dicts that a chat template reads (``extra`` unpacked)."""
    return [
        {
            "role": turn["role"],
            "content": turn["content"],
            **(json.loads(packed) if (packed := turn.get("extra")) else {}),
        }
        for turn in messages
    ]


def prompt_text(messages: Iterable[Message]) -> str:
    """Join the contents of a prompt for display and for word counts (not for a model)."""
    turns = list(messages)
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)


def identity(messages: Iterable[Message]) -> str:
    """Return the prompt id: 128 bits of SHA-256 over roles, contents and extras."""
    # Lengths before the parts: no two different prompts give the same bytes, whatever their texts hold.
    packed = "".join(
        f"{len(t['role'])}:{t['role']}{len(t['content'])}:{t['content']}{t.get('extra') or ''};" for t in messages
    )
    return hashlib.sha256(packed.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def prompt_identity(messages: Sequence[Message], texts: Iterable[str]) -> str:
    """Return the prompt id; where the prompt holds no text, the identity of the responses.

    Rows without any prompt have nothing in common by that.
    """
    if any(turn["content"] for turn in messages):
        return identity(messages)
    return identity([message("assistant", text) for text in sorted(texts)])


def default_group(messages: Sequence[Message], prompt_id: str) -> str:
    """Return the split group: the identity of the first thing the user said, or the prompt's where that is nothing.

    Dialogues that begin in the same way are often continuations of one another.
    """
    first = next((turn for turn in messages if turn["role"] == "user"), None)
    return identity([message("user", first["content"])]) if first is not None and first["content"] else prompt_id


def edge(
    a: int,
    b: int,
    p: float = 1.0,
    *,
    m: float = 0.0,
    w: float = 1.0,
    source: str = "human",
    annotator: str | None = None,
    confidence: float | None = None,
    round: int | None = None,
) -> Edge:
    """Build one judgement; by default a plain human one, ``a`` better than ``b``."""
    return {
        "a": a,
        "b": b,
        "p": p,
        "m": m,
        "w": w,
        "source": source,
        "annotator": annotator,
        "confidence": confidence,
        "round": round,
    }


def comparison(
    prompt: str | Sequence[dict[str, Any]],
    responses: Sequence[str],
    edges: Iterable[Edge] = (),
    *,
    grades: Sequence[Sequence[Grade]] | None = None,
    response_messages: Sequence[str | None] | None = None,
    split_group: str | None = None,
    meta: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build one record; ``prompt_id`` is computed, ``split_group`` defaults to the first user turn's identity."""
    turns = as_messages(prompt)
    prompt_id = prompt_identity(turns, responses)
    return {
        "prompt": turns,
        "responses": list(responses),
        "response_messages": list(response_messages) if response_messages else [None] * len(responses),
        "grades": [list(g) for g in grades] if grades else [[] for _ in responses],
        "edges": list(edges),
        "prompt_id": prompt_id,
        "split_group": split_group if split_group is not None else default_group(turns, prompt_id),
        "meta": json.dumps(meta, ensure_ascii=False) if meta else None,
    }


def with_responses(
    record: Mapping[str, Any], texts: Sequence[str], messages: Sequence[str | None] | None = None
) -> dict[str, Any]:
    """Append responses without grades to a record.

    Parameters
    ----------
    record
        One row of comparisons.
    texts, messages
        Of the new responses; no messages: texts only.

    Returns
    -------
    dict
        The columns that change: ``responses``, ``response_messages`` and ``grades``.
    """
    count = len(record["responses"])
    return {
        "responses": [*record["responses"], *texts],
        "response_messages": [*(record["response_messages"] or [None] * count), *(messages or [None] * len(texts))],
        "grades": [*(record["grades"] or [[] for _ in range(count)]), *([] for _ in texts)],
    }


def from_rows(rows: Iterable[dict[str, Any]], kind: Kind = "comparisons") -> Dataset:
    """Build an in-memory data set of one kind from rows made by the functions above."""
    return Dataset.from_list(list(rows), features=SCHEMAS[kind])
