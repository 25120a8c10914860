"""The prompt of a row: the column that asks, and what others add to it: input, earlier turns, the system's words."""

from __future__ import annotations

from assay.feedback.dialogues import chat, is_chat, is_open_hh, prompt_messages, unpack_chat
from assay.feedback.drafts import Context
from assay.feedback.fields import Row, cell, items, shown, text, unpack
from assay.feedback.problems import RowError
from assay.feedback.records import Message, message

PROMPT_COLUMNS = ("prompt", "instruction", "question", "query", "context", "post")
#: Columns with what the system says; the last may as well name who wrote a response.
SYSTEM_COLUMNS = ("system_prompt", "system_message", "system")
SYSTEM_NOT_READ = "column system kept in meta, not read as what the system says (name it: --mapping.system)"
INPUT_JOINED = "input joined to the prompt"


def prompt_column(row: Row) -> str:
    """Return the name of the column that holds the prompt ("prompt" if there is none)."""
    return next((name for name in PROMPT_COLUMNS if name in row), "prompt")


def alpaca_prompt(row: Row) -> list[Message]:
    """Join instruction and input with a line end, unless the instruction quotes it; system and history come before."""
    asked, more = text(row, "instruction"), _optional_text(row, "input")
    turns = [message("user", asked if not more or more in asked else f"{asked}\n{more}")]
    return with_system(row, [*_history(row), *turns])


def _history(row: Row) -> list[Message]:
    """Return earlier turns: messages, or pairs of question and answer."""
    given = items(row, "history") if row.get("history") else []
    if is_chat(given):
        return chat(given, "history")
    turns = []
    for i, entry in enumerate(given):
        if not (isinstance(entry, (list, tuple)) and len(entry) == 2 and all(isinstance(t, str) for t in entry)):
            raise RowError(
                "not a turn", column=f"history[{i}]", expected='["question", "answer"], or messages', got=shown(entry)
            )
        turns += [message("user", entry[0]), message("assistant", entry[1])]
    return turns


def _optional_text(row: Row, column: str) -> str:
    """Return a text cell; absent, null and (pandas) NaN are the empty text."""
    value = row.get(column)
    return "" if value is None or value != value else text(row, column)


def with_system(row: Row, prompt: list[Message], *, alone: bool = False) -> list[Message]:
    """Put what the system says, in a column of its own, before a prompt that does not begin so.

    ``alone``: of a row with one response a column ``system`` may as well name who wrote it, so it is not read.
    """
    return after_system(next((said for name in _systems(alone) if (said := _optional_text(row, name))), ""), prompt)


def after_system(said: str, prompt: list[Message]) -> list[Message]:
    """Put what the system says before a prompt that does not begin so itself."""
    return [message("system", said), *prompt] if said and prompt[0]["role"] != "system" else prompt


def _is_alpaca(row: Row, column: str) -> bool:
    """Tell whether the column is a plain instruction, with its ``input`` and ``history``; not a JSON conversation."""
    asked = row.get(column)
    return column == "instruction" and isinstance(asked, str) and not is_chat(unpack(asked))


def _systems(alone: bool) -> tuple[str, ...]:
    return SYSTEM_COLUMNS[:-1] if alone else SYSTEM_COLUMNS


def asked_prompt(row: Row, column: str, context: Context, *, alone: bool = False) -> list[Message]:
    """Return the prompt of a row: the column that asks, what ``input`` adds to it, and what the system says.

    ``alone``: see `with_system`.
    """
    if _is_alpaca(row, column):
        return alpaca_prompt(row)
    value = unpack_chat(cell(row, column), column)
    if "input" in read_with(row, column):
        context.note(INPUT_JOINED, 1)
        value = f"{value}\n{row['input']}"
    if alone and _optional_text(row, SYSTEM_COLUMNS[-1]):
        context.note(SYSTEM_NOT_READ, 1)
    prompt = prompt_messages(value, column)
    for name in PROMPT_COLUMNS:
        more = row.get(name)
        if name != column and isinstance(more, str) and more and not any(more in turn["content"] for turn in prompt):
            context.note(f"column {name} kept in meta, not shown to models (name it: --mapping.prompt)", 1)
    return with_system(row, prompt, alone=alone)


def read_with(row: Row, column: str, *, alone: bool = False) -> set[str]:
    """Return the columns that `asked_prompt` reads beside its own.

    ``input`` belongs to a plain question, unless the question already quotes it.
    """
    asked, more = row.get(column), row.get("input")
    systems = set(_systems(alone))
    if _is_alpaca(row, column):
        return {"input", "history", *SYSTEM_COLUMNS}
    if not isinstance(asked, str) or not isinstance(more, str) or is_chat(unpack(asked)) or is_open_hh(asked):
        return systems
    return {"input"} | systems if more and more not in asked else systems
