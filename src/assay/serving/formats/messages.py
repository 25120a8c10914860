"""Messages of a conversation as requests hold them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of a turn; only text can be scored."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn; further fields, such as tool calls, go to the template."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[Part] | None = None

    def plain(self) -> dict[str, Any]:
        """Return what templates read: parts of text joined."""
        found = self.model_dump()
        if isinstance(self.content, list):
            found["content"] = "".join(part.text for part in self.content)
        return found


def plain(messages: str | list[Message]) -> Any:
    """Return messages as the dicts that templates read, and text as it is."""
    return messages if isinstance(messages, str) else [message.plain() for message in messages]
