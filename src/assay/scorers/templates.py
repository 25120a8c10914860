"""How a conversation becomes text: the tokenizer's chat template, or a named plain one.

Named templates are Jinja sources in the form of chat templates, so both kinds go through one renderer. They write the
tokenizer's own marks: ``bos`` (the token its plain encoding starts with, if any) and ``end`` (see
`ConversationEncoder`).
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from assay.errors import ModelError

_TURNS = """\
{%- for turn in messages -%}
{%- if turn.role == 'user' %}{{ '\n\nHuman: ' + turn.content }}
{%- elif turn.role == 'assistant' %}{{ '\n\nAssistant: ' + turn.content }}
{%- else %}{{ '\n\n' + turn.role | capitalize + ': ' + turn.content }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '\n\nAssistant: ' }}{% endif -%}
"""

_BODY = """\
{%- if not add_generation_prompt and messages | length > 1 and messages[-1].role == 'assistant' -%}
{%- set turns, reply = messages[:-1], messages[-1].content -%}
{%- else -%}
{%- set turns, reply = messages, none -%}
{%- endif -%}
{%- for turn in turns -%}
{%- if turns | length == 1 %}{{ turn.content }}
{%- else %}{{ ('' if loop.first else '\n\n') + turn.role | capitalize + ': ' + turn.content }}
{%- endif -%}
{%- endfor -%}
"""

#: Name -> Jinja source. ``plain`` writes a lone prompt and its response one behind the other, ``pair`` puts the
#: tokenizer's separator between them, ``hh`` writes the dialogue marks of the HH-RLHF data.
NAMED: dict[str, str] = {
    "plain": "{{ bos }}" + _BODY + "{%- if reply is not none %}{{ reply }}{% endif -%}",
    "pair": "{{ bos }}"
    + _BODY
    + "{%- if reply is not none or add_generation_prompt %}{{ sep }}{{ reply or '' }}{% endif -%}"
    # the separator before a reply without any token must not be taken for the one that ends the text
    + "{%- if reply is not none and not reply | trim %}{{ sep }}{% endif -%}",
    "hh": "{{ bos }}" + _TURNS,
}

# Some chat templates write today's date. A score must not change overnight, so their clock is stopped, in the template
# itself: rendering passes plain values only. A directive not listed stays as it is written.
_DATE = datetime.datetime(2024, 7, 26)
DATE_STRING = _DATE.strftime("%d %b %Y")
_WRITTEN = {"%-d": "26", "%-m": "7"} | {
    d: _DATE.strftime(d) for d in (f"%{letter}" for letter in "aAbBcdFHIjmMpSTwxXyY")
}
_STOPPED_CLOCK = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('{directive}', '{written}')" for directive, written in _WRITTEN.items())
    + " }}{%- endmacro %}{{ '' }}"
)


_MARK = "{reply}"


class Template:
    """Render conversations to text.

    Parameters
    ----------
    tokenizer
        Its chat template and special tokens are used.
    name
        ``"chat"``, or a name in `NAMED`, or ``"custom"`` together with ``source``.
    source
        Jinja source of a custom template, with the variables of chat templates and ``bos``, ``sep``.

    Attributes
    ----------
    jinja
        The source in force, its clock stopped.
    bos, sep
        The marks that named and custom templates may write: what the tokenizer's plain encoding starts with, and its
        separator (a line break where it has none).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str, source: str | None = None) -> None:
        if name == "chat" and not tokenizer.chat_template:
            raise ModelError(
                "the tokenizer has no chat template",
                expected="a chat template for --template chat",
                remedy=f"name a plain one: --template {' | '.join(NAMED)}",
            )
        if name not in NAMED and name not in ("chat", "custom"):
            raise ModelError(
                f"unknown template {name!r}", expected=f"chat, {', '.join(NAMED)}, or a file ending in .jinja"
            )
        self.tokenizer, self.name, self.source = tokenizer, name, source
        # of several chat templates, the one that is used by default
        jinja = str(tokenizer.get_chat_template() if name == "chat" else NAMED.get(name, source))
        self.jinja = _STOPPED_CLOCK + jinja if "strftime_now" in jinja else jinja
        self.bos = _leading_token(tokenizer) if name != "chat" else ""
        self.sep = tokenizer.sep_token or "\n"

    def render(self, messages: Sequence[dict[str, Any]], *, generation_prompt: bool = False) -> str:
        """Write a message list as text; with ``generation_prompt`` it ends where a reply would begin.

        Raises
        ------
        ModelError
            If the template refuses the conversation (its own message is passed on).
        """
        import jinja2

        try:
            text = self.tokenizer.apply_chat_template(
                list(messages),
                chat_template=self.jinja,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                bos=self.bos,
                sep=self.sep,
                date_string=DATE_STRING,
            )
        except (jinja2.TemplateError, ValueError, TypeError, KeyError) as error:
            roles = [turn.get("role") for turn in messages]
            raise ModelError(
                f"the template {self.name!r} cannot write this conversation: {error}",
                got=f"roles {roles}",
                remedy="use another --template, or change the roles in the data",
            ) from error
        return str(text)

    def frame(self) -> tuple[str, str]:
        """Return a short conversation as text: up to and with the reply, and what the template writes after it.

        Both are empty for a template that refuses it.
        """
        try:
            text = self.render([{"role": "user", "content": "Q"}, {"role": "assistant", "content": _MARK}])
        except ModelError:
            return "", ""
        before, mark, after = text.rpartition(_MARK)
        return before + mark, after

    @functools.cached_property
    def keeps_system(self) -> bool:
        """Whether a system message is written before a reply: some templates write it only where a reply is awaited."""
        turns = [{"role": role, "content": text} for role, text in (("system", "S"), ("user", "Q"), ("assistant", "A"))]
        try:
            return "{system}" in self.render([{**turns[0], "content": "{system}"}, *turns[1:]])
        except ModelError:
            return True  # it refuses one aloud

    def openings(self, prompt: Sequence[dict[str, Any]]) -> tuple[str, str]:
        """Return a prompt as text that awaits a reply, and as it stands."""
        return self.render(prompt, generation_prompt=True), self.render(prompt)

    def parts(
        self,
        prompt: Sequence[dict[str, Any]],
        reply: Sequence[dict[str, Any]],
        openings: tuple[str, str] | None = None,
    ) -> tuple[str, int, int]:
        """Return the text of prompt and reply, where the prompt's own content ends, and where the reply begins.

        Both positions count characters. Between them stands what announces a reply (an assistant header, a separator).
        ``openings`` are those of the prompt, if they are known already.
        """
        whole = self.render([*prompt, *reply])
        opened, plain = openings or self.openings(prompt)
        start = _shared(whole, opened)
        body = min(_shared(whole, plain), start)
        if start < len(opened):
            start, body = self._parts_by_content(whole, prompt, reply, start, body)
        return whole, body, start

    def _parts_by_content(
        self, whole: str, prompt: Sequence[dict[str, Any]], reply: Sequence[dict[str, Any]], start: int, body: int
    ) -> tuple[int, int]:
        """Find where the reply begins, and where the prompt ends, in a template that writes either in another way.

        Some templates announce a reply differently than they write one; others write the turns before a reply
        differently than turns that wait for one.
        """
        said = str(reply[0].get("content") or "").strip()
        other = next(mark for mark in "01" if not said.startswith(mark))
        start = max(start, _shared(whole, self.render([*prompt, {**reply[0], "content": other}])))
        last = str(prompt[-1].get("content") or "").strip() if prompt else ""
        at = whole.rfind(last, 0, start) if last else -1
        return start, max(body, at + len(last)) if at >= 0 else body


def _shared(a: str, b: str) -> int:
    """Return the length of the longest common prefix."""
    shortest = min(len(a), len(b))
    return next((i for i in range(shortest) if a[i] != b[i]), shortest) if a[:shortest] != b[:shortest] else shortest


def _leading_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the token that the tokenizer's plain encoding starts with, or an empty string."""
    ids = tokenizer("a")["input_ids"]
    first = ids[0] if ids else None
    known = {tokenizer.bos_token_id: tokenizer.bos_token, tokenizer.cls_token_id: tokenizer.cls_token}
    return str(known[first]) if first is not None and known.get(first) else ""


def resolve_template(tokenizer: PreTrainedTokenizerBase, wanted: str, *, causal: bool) -> tuple[str, str | None]:
    """Decide the template: ``auto`` is the chat template if there is one, else ``hh`` (causal) or ``pair`` (encoder).

    Returns the name and, for a ``.jinja`` file, its source.
    """
    if wanted.endswith((".jinja", ".j2")):
        try:
            with open(wanted, encoding="utf-8") as file:
                return "custom", file.read()
        except OSError as error:
            raise ModelError(f"cannot read the template: {error.strerror}", where=wanted) from error
    if wanted != "auto":
        return wanted, None
    if tokenizer.chat_template:
        return "chat", None
    return ("hh" if causal else "pair"), None
