"""Messages of a conversation as requests hold them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """One turn; further fields, such as tool calls, go to the template."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | None = None


def plain(messages: str | list[Message]) -> Any:
    """Return messages as the dicts that templates read, and text as it is."""
    return messages if isinstance(messages, str) else [message.model_dump() for message in messages]
