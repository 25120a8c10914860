"""``assay align`` with rewards: a policy that learns from what it writes, watched, and judged on prompts kept apart."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from assay.config import dump_yaml, to_plain
from assay.console import say
from assay.credit.answers import Answers
from assay.evaluation.report import now
from assay.output import as_bytes, check_new, new_folder, write_atomic, write_json
from assay.scorers import backbones, create_policy
from assay.scorers.loading import load_reward_model
from assay.scorers.policy_loading import plain_folder
from assay.training.checkpoints import newest_complete
from assay.training.monitors import warnings_of
from assay.training.progress import TerminalProgress
from assay.training.rollout_arguments import RolloutArguments, check_rollout_arguments, check_together
from assay.training.rollout_trainer import RolloutTrainer
from assay.training.rollouts import Prompts
from assay.versions import current_versions
from assay.workflows import hardware
from assay.workflows.data import group_keys, write_seen_groups
from assay.workflows.online_prompts import (
    asks_in_chats,
    check_routes,
    check_truths,
    prompts_of,
    read_prompts,
    some_of,
    with_room,
)
from assay.workflows.online_report import write_online_report
from assay.workflows.online_rewards import actor_of, algorithm_of, rewards_of, writer_of
from assay.workflows.online_settings import OnlineSettings
from assay.workflows.options import writer_options
from assay.workflows.resuming import kept_if_resumable, refuse_another_run

_IDENTITY = "identity.json"
_RUNTIME = ("resume", "overwrite", "dry_run", "out")


def align_online(settings: OnlineSettings) -> dict[str, Any]:
    """Run `assay align` with an online method; return what ``metrics.json`` holds.

    The run folder holds ``model/`` (a plain transformers folder with ``assay.json``), ``config.yaml``,
    ``metrics.json``, ``history.jsonl`` (one line per cycle), ``samples.jsonl`` and ``report.html``; while it runs,
    ``checkpoints/``.

    Raises
    ------
    AssayError
        Before anything is written, if data, models, settings or output place do not fit. Later, if rewards cannot be
        had or the loss is no number; what was finished is kept for ``--resume``.
    """
    started = time.perf_counter()
    check_new(settings.out, overwrite=settings.overwrite)
    backbones.load_config(plain_folder(settings.backbone))
    train, test = read_prompts(settings)
    rewards, algorithm = rewards_of(settings), algorithm_of(settings)
    policy = create_policy(writer_options(settings))
    settings = resolved(settings, sum(p.numel() for p in policy.parameters()))
    train, crowded = with_room(policy, train, settings.rollout.max_new_tokens)
    test = with_room(policy, test, settings.rollout.max_new_tokens)[0] if test is not None else None
    if crowded:
        say(f"left out {crowded:,} prompts: behind them is no room for {settings.rollout.max_new_tokens:,} new tokens")
    as_chats = asks_in_chats(settings)
    asked = prompts_of(train, as_chats)
    held_out = None if test is None else prompts_of(some_of(test, settings), as_chats)
    check_truths(settings, asked, held_out)
    check_routes(settings, asked, held_out)
    actor = actor_of(settings, policy, algorithm)
    args = arguments(settings, Path(settings.out), len(asked))
    if settings.dry_run:
        planned, cycles = check_rollout_arguments(args, len(asked))
        check_together(actor, planned, algorithm)
        return {"dry_run": True, "steps": int(planned.max_steps), "cycles": cycles, "prompts": len(asked)}
    gold, writer = None if settings.gold is None else _gold(settings.gold), writer_of(settings)
    with new_folder(settings.out, overwrite=settings.overwrite, resume=settings.resume, keep_on_error=True) as folder:
        identity = {name: value for name, value in to_plain(settings).items() if name not in _RUNTIME}
        identity = {"settings": identity, "prompts": len(asked), "models": dict(policy.record.fingerprint)}
        refuse_another_run(folder / _IDENTITY, json.loads(json.dumps(identity)))
        with kept_if_resumable(folder, _newest):
            write_json(folder / _IDENTITY, identity)
            shown = TerminalProgress()
            args = arguments(settings, folder, len(asked))
            trainer = RolloutTrainer(
                actor, args, asked, rewards, algorithm, gold=gold, held_out=held_out, writer=writer, callbacks=[shown]
            )
            done = _train(folder, settings, trainer, held_out)
            write_seen_groups(folder / "model", group_keys(train), settings.backbone)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            (folder / _IDENTITY).unlink()
            done |= {"prompts": {"trained on": len(asked), "held out": len(held_out or ()), "without room": crowded}}
            done |= {"seconds": time.perf_counter() - started, "versions": current_versions()}
            write_json(folder / "metrics.json", done)
    return done


def _train(folder: Path, settings: OnlineSettings, trainer: RolloutTrainer, held_out: Prompts | None) -> dict[str, Any]:
    first = folder / "before.json"
    before = None
    if held_out is not None:
        if first.is_file():
            before = json.loads(first.read_text(encoding="utf-8"))
        else:
            before = _looked_at(settings, trainer)
            write_json(first, before)
    trainer.train(resume_from_checkpoint=True if settings.resume else None)
    after = _looked_at(settings, trainer) if held_out is not None else None
    first.unlink(missing_ok=True)
    policy = trainer.policy
    policy.reference = None
    policy.save_pretrained(folder / "model")
    write_atomic(folder / "config.yaml", dump_yaml(settings.model_copy(update={"resume": False, "overwrite": False})))
    history = [_without_nan(entry) for entry in trainer.history()]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in history)
    (folder / "history.jsonl").write_bytes(as_bytes(lines))
    notes = warnings_of(history)
    for note in notes:
        say(f"warning: {note}")
    rows = _rows(before, after)
    samples = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "samples.jsonl").write_bytes(as_bytes(samples))
    told = {
        "cycles": len(history),
        "first": history[0] if history else None,
        "last": history[-1] if history else None,
        "held_out": {
            side: None if found is None else found["means"] for side, found in (("before", before), ("after", after))
        },
        "warnings": notes,
        "training_seconds": trainer.seconds,
    }
    write_online_report(folder / "report.html", settings, told, history, rows[: settings.shown], created=now())
    return told


def _looked_at(settings: OnlineSettings, trainer: RolloutTrainer) -> dict[str, Any]:
    """Return means over the held-out prompts as they are answered now, and some texts with what tokens earned."""
    means = trainer.look()
    assert trainer.looked is not None
    answers, rewards = trainer.looked
    totals = answers.sums(rewards.tokens)
    texts = [
        {
            "prompt": _shown(answers.prompts[row]),
            "response": answers.texts[row],
            "reward": float(totals[row]) if np.isfinite(totals[row]) else None,
            "tokens": answers.pieces(row),
            "credit": _finite(rewards.tokens[answers.offsets[row] : answers.offsets[row + 1]]),
        }
        for row in range(min(settings.shown, len(answers)))
    ]
    return {"means": {name.removeprefix("held-out "): value for name, value in means.items()}, "texts": texts}


def _finite(values: np.ndarray) -> list[float]:
    """Return values with 0 for what is no number, which JSON does not know."""
    found: list[float] = np.where(np.isfinite(values), values, 0.0).tolist()
    return found


def _shown(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else "\n\n".join(str(turn["content"]) for turn in prompt)


def _without_nan(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the same with None for what is no number, which JSON does not know."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in entry.items()}


def _rows(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return prompts with the responses before and after."""
    if before is None or after is None:
        return []
    return [
        {"prompt": one["prompt"], "before": one, "after": other}
        for one, other in zip(before["texts"], after["texts"], strict=True)
    ]


def resolved(settings: OnlineSettings, parameters: int) -> OnlineSettings:
    """Replace settings that depend on others by the values that will be used."""
    rate = 1e-5 if settings.lora or parameters < 100_000_000 else 1e-6
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and hardware.multiplies_in_bf16())
    changed = {"learning_rate": settings.learning_rate or rate, "precision": "bf16" if bf16 else "fp32"}
    return settings.model_copy(update=changed)


def arguments(settings: OnlineSettings, folder: Path, prompts: int) -> RolloutArguments:
    """Turn resolved settings into training arguments."""
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "logs")
    rollout = settings.rollout
    steps = rollout.inner_epochs * rollout.minibatches
    return RolloutArguments(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=settings.epochs,
        max_steps=-1 if settings.cycles is None else settings.cycles * steps,
        learning_rate=settings.learning_rate or 0.0,
        critic_learning_rate=settings.critic.learning_rate,
        prompts_per_cycle=min(rollout.prompts, prompts),
        responses=rollout.responses,
        max_new_tokens=rollout.max_new_tokens,
        temperature=rollout.temperature,
        inner_epochs=rollout.inner_epochs,
        minibatches=rollout.minibatches,
        token_budget=settings.token_budget,
        generation_token_budget=rollout.token_budget,
        warmup_steps=settings.warmup_share,
        lr_scheduler_type=settings.scheduler,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_gradient_norm,
        bf16=settings.precision == "bf16",
        compile_layers=settings.compile,
        use_cpu=hardware.best_device().type == "cpu",
        optim="adamw_torch_fused",
        evaluate_every=settings.evaluate_every,
        save_every=settings.save_every,
        save_strategy="steps",
        report_to=list(settings.report_to) or "none",
        seed=settings.seed,
        disable_tqdm=True,
    )


def _gold(name: str) -> Callable[[Answers], Any]:
    model = load_reward_model(name).to(hardware.best_device())
    return lambda answers: model.score(answers.prompts, answers.texts)


def _newest(folder: Path) -> str | None:
    found = newest_complete(folder / "checkpoints")
    return None if found is None else found.name
