"""``assay check``."""

from __future__ import annotations

from pathlib import Path

from assay.console import say
from assay.errors import ModelError
from assay.feedback import CheckReport, Encoder, check
from assay.feedback.records import Message, as_chat
from assay.output import check_new, write_json
from assay.workflows.judge_settings import CheckSettings


def check_data(settings: CheckSettings) -> CheckReport:
    """Run `assay check`; the caller turns errors into exit code 1."""
    if settings.out:
        check_new(settings.out, overwrite=settings.overwrite)
    encoder = _token_counter(settings)
    report = check(settings.data, **settings.reading(), test=settings.test, encoder=encoder, seed=settings.seed)
    if settings.out and not settings.dry_run:
        write_json(Path(settings.out), report.to_dict())
    return report


def _token_counter(settings: CheckSettings) -> Encoder | None:
    """Count tokens as training with the named backbone would; without the default one, say so and go on."""
    if settings.backbone == "none":
        return None
    # torch and its company take seconds to import; a check of the rows alone goes without
    from assay.workflows.token_counts import tokens_only

    try:
        made = tokens_only(settings.backbone, settings.template, settings.max_length_tokens)
    except ModelError as error:
        if "backbone" in settings.model_fields_set:
            raise
        say(f"truncation is not checked: {error.problem} (name a --backbone)")
        return None

    def count(prompt: list[Message], response: str) -> tuple[int, int, int]:
        ids = made.encode([as_chat(prompt)], [response])[0]
        total = len(ids.ids) + ids.cut_prompt + ids.cut_reply
        before = ids.prompt_tokens + ids.cut_prompt
        return before, total - before, made.settings.max_length_tokens

    return count
