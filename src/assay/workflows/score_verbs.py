"""``assay score``, ``assay export`` and ``assay check``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from assay.console import progress, say
from assay.errors import ModelError
from assay.feedback import CheckReport, check, kind_of, read_with_report
from assay.feedback.records import Message, as_chat
from assay.output import check_new, new_folder, write_atomic, write_json
from assay.scorers import RewardModel, export
from assay.scorers import backbones as backbones_module
from assay.scorers.conversation import ConversationEncoder
from assay.scorers.loading import ModelOptions, make_encoder
from assay.workflows.settings import CheckSettings, ExportSettings, ScoreSettings

_ROWS_AT_ONCE = 512


def score_data(settings: ScoreSettings) -> dict[str, Any]:
    """Run `assay score`: one JSON line per response, to a file that appears whole or to standard output.

    Each line holds ``prompt_id``, ``response`` (its number), ``score``, ``truncated``, and with ``--tokens`` the tokens
    and the score after each (``prefix_scores``, one more than there are tokens: the first is the bare prompt).
    """
    if settings.out:
        check_new(settings.out, overwrite=settings.overwrite)
    model = RewardModel.from_pretrained(settings.model, **settings.encoder_options())
    data, report = read_with_report(settings.data, **settings.reading())
    say("\n".join(report.lines()))
    if settings.tokens and (not model.config.causal or model.config.layout == "native"):
        raise ModelError("scores per token need a causal reward model trained by assay", got=settings.model)
    if settings.dry_run:
        return {"dry_run": True, "records": len(data)}
    lines, truncated = [], 0
    for line in progress(_scores(model, data, settings), "scoring"):
        truncated += line["truncated"]
        if settings.out:
            lines.append(json.dumps(line, ensure_ascii=False))
        else:
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    if settings.out:
        write_atomic(settings.out, "\n".join(lines) + "\n")
    say(f"scored {len(lines) or report.responses} responses; {truncated} texts were truncated")
    return {"responses": len(lines) or report.responses, "truncated": truncated}


def _scores(model: RewardModel, data: Dataset, settings: ScoreSettings) -> Iterator[dict[str, Any]]:
    ratings = kind_of(data) == "ratings"
    for batch in data.iter(_ROWS_AT_ONCE):
        entries = []
        for row, prompt in enumerate(batch["prompt"]):
            replies = [batch["response"][row]] if ratings else batch["responses"][row]
            packed = [None] * len(replies) if ratings else batch["response_messages"][row]
            entries += [
                (batch["prompt_id"][row], number, as_chat(prompt), json.loads(messages) if messages else text)
                for number, (text, messages) in enumerate(zip(replies, packed, strict=True))
            ]
        encoded = model.encoder.encode([e[2] for e in entries], [e[3] for e in entries])
        values = model.score_encoded([e.ids for e in encoded], token_budget=settings.token_budget)
        for (prompt_id, number, prompt, reply), made, value in zip(entries, encoded, values, strict=True):
            line: dict[str, Any] = {
                "prompt_id": prompt_id,
                "response": number,
                "score": round(float(value.mean()), 6),
                "truncated": bool(made.cut_prompt or made.cut_reply),
            }
            if settings.tokens:
                tokens = model.encoder.tokenizer.convert_ids_to_tokens(made.ids[made.prompt_tokens :])
                line |= {
                    "tokens": tokens,
                    "prefix_scores": [round(float(v), 6) for v in model.prefix_scores(prompt, reply)],
                }
            yield line


def export_model(settings: ExportSettings) -> dict[str, Any]:
    """Run `assay export`; return the largest score difference between the two forms."""
    check_new(settings.out, overwrite=settings.overwrite)
    model = RewardModel.from_pretrained(settings.model)
    if settings.dry_run:
        from assay.scorers.export import why_not

        return {"dry_run": True, "reason_against": why_not(model)}
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        difference = export(model, folder)
        calibration = model.record.calibration
        write_json(folder / "metrics.json", {"largest_difference": difference, "calibration": calibration})
    return {"largest_difference": difference}


def check_data(settings: CheckSettings) -> CheckReport:
    """Run `assay check`; the caller turns errors into exit code 1."""
    if settings.out:
        check_new(settings.out, overwrite=settings.overwrite)
    encoder = None
    if settings.backbone != "none":
        made = tokens_only(settings.backbone, settings.max_length_tokens)

        def encoder(prompt: list[Message], response: str) -> tuple[int, int, int]:
            ids = made.encode([as_chat(prompt)], [response])[0]
            total = len(ids.ids) + ids.cut_prompt + ids.cut_reply
            before = ids.prompt_tokens + ids.cut_prompt
            return before, total - before, made.settings.max_length_tokens

    report = check(settings.data, **settings.reading(), test=settings.test, encoder=encoder, seed=settings.seed)
    if settings.out and not settings.dry_run:
        write_json(Path(settings.out), report.to_dict())
    return report


def tokens_only(backbone: str, max_length_tokens: int | None) -> ConversationEncoder:
    """Make the encoder that training with this backbone would use, without loading its weights."""
    tokenizer = backbones_module.load_tokenizer(backbone)
    config = backbones_module.load_config(backbone)
    causal = not hasattr(config, "type_vocab_size") and not getattr(config, "is_encoder_decoder", False)
    options = ModelOptions(backbone=backbone, max_length_tokens=max_length_tokens)
    return make_encoder(tokenizer, config, options, causal=causal)
