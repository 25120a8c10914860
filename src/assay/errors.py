"""One exception root. Every message says what was expected, what came, where, and what to try."""

from __future__ import annotations


class AssayError(Exception):
    """Root of all errors that a user can cause and mend; the command line turns it into exit code 2.

    Parameters
    ----------
    problem
        One sentence: what is wrong.
    where
        The place: ``file:row:column``, a configuration key, a folder.
    expected, got
        What should have been there, and what was.
    remedy
        What to try next.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.where = problem, where
        self.expected, self.got, self.remedy = expected, got, remedy
        parts = [f"{where}: {problem}" if where else problem]
        parts += [f"  expected: {expected}"] if expected else []
        parts += [f"  got:      {got}"] if got else []
        parts += [f"  try:      {remedy}"] if remedy else []
        super().__init__("\n".join(parts))


class DataError(AssayError):
    """Raised when feedback data cannot be read, or contradicts itself."""


class ConfigError(AssayError):
    """Raised when a setting is unknown, has the wrong type, or does not fit another setting."""


class ModelError(AssayError):
    """Raised when a model, tokenizer or template is missing, changed, or cannot do what was asked."""


class OutputError(AssayError):
    """Raised when a result cannot be written: the folder exists, the disk is full, no permission."""
