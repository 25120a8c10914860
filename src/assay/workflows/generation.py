"""Responses to prompts that have none: sampled from causal models, to be labelled and learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from assay.console import progress
from assay.errors import DataError, ModelError
from assay.feedback import as_chat, comparison, from_rows, prompt_text
from assay.scorers import backbones
from assay.scorers.judges.replies import without_thinking
from assay.scorers.sampling import Sampling, continuations, ends_of
from assay.workflows import hardware
from assay.workflows.label_settings import Generation


@dataclass
class Generated:
    """Records with sampled responses, and what happened on the way.

    Attributes
    ----------
    data
        Comparisons without judgements; ``meta`` says which model wrote each response.
    counts
        Responses sampled; empty ones (or nothing but thinking) and repeated ones, left out; those that ended at the
        limit; prompts that were too long for a model; prompts left with fewer than two responses, left out.
    """

    data: Dataset
    counts: dict[str, int] = field(default_factory=dict)


def generate(prompts: Dataset, settings: Generation, seed: int) -> Generated:
    """Sample responses to each prompt from each model.

    Parameters
    ----------
    prompts
        Records of the kind prompts.
    settings
        Models, how many responses of each, and how they are sampled.
    seed
        Of the samples. They also depend on the batches, and so on the token budget.

    Raises
    ------
    ModelError
        If a model cannot be loaded, or writes no text.
    DataError
        If no prompt is left with two different responses.
    """
    asked = [row["prompt"] for row in prompts.select_columns(["prompt"])]
    texts: list[list[str]] = [[] for _ in asked]
    written_by: list[list[dict[str, Any]]] = [[] for _ in asked]
    counts: Counter[str] = Counter(
        dict.fromkeys(("sampled", "empty", "repeated", "at_the_limit", "prompts_too_long", "prompts_left_out"), 0)
    )
    for name in settings.models:
        for row, text, ended in _sampled(name, asked, settings, seed, counts):
            counts["sampled"] += 1
            counts["at_the_limit"] += not ended
            if not text:
                counts["empty"] += 1
            elif text in texts[row]:
                counts["repeated"] += 1
            else:
                texts[row].append(text)
                written_by[row].append({"model": name, "ended": ended})
    kept = [row for row, own in enumerate(texts) if len(own) > 1]
    counts["prompts_left_out"] = len(asked) - len(kept)
    if not kept:
        raise DataError(
            "no prompt got two different responses",
            expected="models that answer differently when asked twice",
            got=", ".join(f"{count} {name}" for name, count in counts.items() if count),
            remedy="raise --generate.temperature or --generate.max-new-tokens, or name other models",
        )
    groups = prompts.select(kept)["split_group"]
    rows = [
        comparison(as_chat(asked[row]), texts[row], split_group=group, meta={"responses": written_by[row]})
        for row, group in zip(kept, groups, strict=True)
    ]
    return Generated(from_rows(rows), dict(counts))


def _sampled(
    name: str, asked: Sequence[list[Any]], settings: Generation, seed: int, counts: Counter[str]
) -> Iterator[tuple[int, str, bool]]:
    """Yield prompt, text and whether it ended by itself, for each response that one model samples."""
    tokenizer: Any = backbones.load_tokenizer(name)
    config = backbones.load_config(name)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(backbones.locate(name), dtype="auto").eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            "this model writes no text",
            where=name,
            expected="a causal language model with its vocabulary head",
            got=str(error).splitlines()[0][:160],
        ) from error
    device = hardware.best_device()
    model.to(device)
    longest = (backbones.window(config) or settings.token_budget) - settings.max_new_tokens
    ids = [_prompt_ids(tokenizer, prompt) for prompt in asked]
    short = [row for row, each in enumerate(ids) if 0 < len(each) <= longest]
    counts["prompts_too_long"] += len(ids) - len(short)
    ends = ends_of(tokenizer, model)
    how = Sampling(
        settings.responses, settings.max_new_tokens, settings.temperature, settings.top_p, 0, settings.token_budget
    )
    torch.manual_seed(seed)
    with progress(len(short) * settings.responses, f"{name}: responses") as bar:
        begun = [ids[row] for row in short]
        for row, new, ended in continuations(model, begun, ends, tokenizer.pad_token_id or 0, how):
            text = tokenizer.decode(new[:-1] if ended else new, skip_special_tokens=True)
            yield short[row], without_thinking(text), ended
            bar.advance(1)


def _prompt_ids(tokenizer: Any, prompt: list[Any]) -> list[int]:
    if getattr(tokenizer, "chat_template", None):
        text = tokenizer.apply_chat_template(
            as_chat(prompt), tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    return list(tokenizer(prompt_text(prompt), verbose=False)["input_ids"])
