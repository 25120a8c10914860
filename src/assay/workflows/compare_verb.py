"""``assay compare``: what two policies answer, who prefers which, and how far they are from where they began."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from assay.console import say
from assay.errors import DataError
from assay.evaluation.intervals import Estimate, GroupBootstrap
from assay.evaluation.policies import agreement, best_of, divergence, perplexity
from assay.feedback import read_with_report
from assay.feedback.records import as_chat, prompt_text
from assay.output import check_new
from assay.scorers import Policy
from assay.scorers.judges import in_both_orders
from assay.scorers.loading import load_reward_model
from assay.scorers.sampling import Reply, Sampling, leave_room, no_room, replies
from assay.workflows import hardware
from assay.workflows.compare_common import PRINCIPLE, Written, began_as, counts, finish, win_rates, word_of, writer
from assay.workflows.compare_settings import CompareSettings
from assay.workflows.compare_turns import compare_by_turns
from assay.workflows.judge_functions import judge_of
from assay.workflows.judging import leave_out_seen


def compare(settings: CompareSettings) -> dict[str, Any]:
    """Run `assay compare`; return what ``metrics.json`` holds.

    Raises
    ------
    AssayError
        If a model or the data cannot be read, or no prompt leaves room for a response; nothing is then written.
    """
    check_new(settings.out, overwrite=settings.overwrite)
    if settings.protocol == "mt_bench":
        return compare_by_turns(settings)
    other = settings.against or began_as(settings.policy)
    prompts = _prompts(settings, [settings.policy, *((settings.against,) if settings.against else ())])
    model, base = (writer(settings, name) for name in (settings.policy, other))
    # all models are there before any of them begins to write
    named = {"by": settings.by, "gold": settings.gold}
    minds = {role: load_reward_model(name).to(hardware.best_device()) for role, name in named.items() if name}
    prompts, crowded = _with_room(settings, prompts, (model, base))
    if settings.dry_run:
        return {"dry_run": True, "prompts": len(prompts), "policies": [settings.policy, other, *settings.also]}
    asked, groups = [as_chat(row) for row in prompts["prompt"]], np.asarray(prompts["split_group"], object)
    ours, theirs = (_write(settings, name, each, asked) for name, each in ((settings.policy, model), (other, base)))
    told: dict[str, Any] = {
        "policy": settings.policy,
        "against": other,
        "prompts": len(prompts),
        "without_room": crowded,
    }
    told |= dict.fromkeys(("curve", "best_of", "perplexity", "grades", "agreement"))
    told |= _preferences(settings, minds, asked, groups, ours, theirs)
    of_each = np.repeat(groups, settings.write.responses)
    told["divergence"] = _divergence(settings, model, base, ours, of_each)
    told["written"] = {side: counts(each.flat) for side, each in (("policy", ours), ("against", theirs))}
    if settings.by is not None and (settings.gold is not None or settings.also):
        told["curve"] = _curve(settings, minds, asked, of_each, base, ours, theirs)
    if settings.best_of:
        told["best_of"] = _best_of(settings, minds, asked, groups, base)
    if settings.text is not None:
        texts = _texts(settings.text)
        told["perplexity"] = {
            side: _perplexity(settings, each, texts) for side, each in (("policy", model), ("against", base))
        }
    rows = _rows(prompts, ours, theirs, told.pop("preferred"))
    return finish(settings, told, rows, _pairs(asked, ours, theirs) if settings.pairs else None)


def _prompts(settings: CompareSettings, policies: list[str]) -> Dataset:
    """Read the prompts, leave out those that trained a policy, and draw as many as wanted."""
    data, report = read_with_report(settings.data, **settings.reading() | {"ratings": "responses"})
    say("\n".join(report.lines()))
    data, _ = leave_out_seen(data, policies, settings.include_seen)
    first = np.unique(np.asarray(data["prompt_id"], object), return_index=True)[1]
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(np.sort(first))[: settings.prompts])
    if len(chosen) < 2:
        raise DataError(
            "too few prompts to compare policies on", where=settings.data, expected="2", got=f"{len(chosen)}"
        )
    return data.select(chosen)


def _with_room(settings: CompareSettings, prompts: Dataset, policies: Sequence[Policy]) -> tuple[Dataset, int]:
    """Leave out the prompts behind which a policy has no room for a response; return how many too, which is said."""
    asked, new = [as_chat(row) for row in prompts["prompt"]], settings.write.max_new_tokens
    room = np.logical_and.reduce([leave_room(policy, asked, new) for policy in policies])
    crowded = int((~room).sum())
    if crowded == len(room):
        raise no_room(crowded, new)
    if crowded:
        say(f"left out {crowded:,} of {len(room):,} prompts: behind them is no room for {new:,} new tokens")
    return prompts.select(np.flatnonzero(room)), crowded


def _write(settings: CompareSettings, name: str, policy: Policy, asked: list[Any], count: int | None = None) -> Written:
    given = settings.write
    how = Sampling(
        count or given.responses, given.max_new_tokens, given.temperature, given.top_p, 0, given.token_budget
    )
    say(f"{name} answers {len(asked):,} prompts")
    return Written(name, replies(policy, asked, how, settings.seed))


def _preferences(
    settings: CompareSettings,
    minds: dict[str, Any],
    asked: list[Any],
    groups: np.ndarray,
    ours: Written,
    theirs: Written,
) -> dict[str, Any]:
    """Say how often ours are preferred; what was not answered counts nowhere."""
    each = [prompt for prompt in asked for _ in range(settings.write.responses)]
    of_each = np.repeat(groups, settings.write.responses)
    more: dict[str, Any] = {}
    if minds:
        scored = {
            role: np.stack([_scores(mind, each, side.texts) for side in (ours, theirs)], axis=1)
            for role, mind in minds.items()
        }
        margins = {role: both[:, 0] - both[:, 1] for role, both in scored.items()}
        if len(scored) == 2:
            same = agreement(scored["by"], scored["gold"], of_each, resamples=settings.resamples)
            more["agreement"] = {k: v.to_dict() if isinstance(v, Estimate) else v for k, v in same.items()}
    else:
        assert settings.judge is not None
        judge = judge_of(settings.judge)
        said = in_both_orders(judge, [prompt_text(p) for p in each], ours.texts, theirs.texts, PRINCIPLE)
        margins = {"judge": said.margins()}
        more = {"asked": {"name": judge.name, **judge.costs(), "orders": said.counts()}}
    found = {
        name: win_rates(name, margin, ours.texts, theirs.texts, of_each, settings.resamples)
        for name, margin in margins.items()
    }
    first = next(iter(margins.values()))
    return {"win_rate": found, "preferred": first.tolist(), **more}


def _scores(model: Any, prompts: list[Any], texts: list[str]) -> np.ndarray:
    return np.asarray(model.score(prompts, texts), np.float64)


def _said(policy: Policy, written: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probability of some texts from where they begin to be counted, and how many tokens that is."""
    states = policy.features([ids for ids, _ in written], np.array([start for _, start in written], np.int64))
    return states[:, 0].astype(np.float64), states[:, 2].astype(np.float64)


def _perplexity(settings: CompareSettings, policy: Policy, texts: list[str]) -> dict[str, Any]:
    """Judge plain texts, cut at the longest that the policy reads; the first token of each is given."""
    longest = policy.encoder.settings.max_length_tokens
    found = policy.encoder.tokenizer(texts, verbose=False)["input_ids"]
    kept = [(np.array(ids[:longest], np.int64), 1) for ids in found if len(ids) > 1]
    if not kept:
        raise DataError("no held-out text has two tokens", where=str(settings.text), expected="one at least")
    return perplexity(*_said(policy, kept), np.arange(len(kept)), resamples=settings.resamples).to_dict()


def _divergence(
    settings: CompareSettings, policy: Policy, base: Policy, written: Written, groups: np.ndarray
) -> dict[str, Any] | None:
    """Estimate KL(policy, base) from the policy's own samples; None where they are of another distribution."""
    if settings.write.temperature != 1 or settings.write.top_p != 1:
        say("samples at another temperature than 1, or of a share of the probability, tell no divergence")
        return None
    if policy.encoder.tokenizer.get_vocab() != base.encoder.tokenizer.get_vocab():
        say("the policies have other tokens, so there is no divergence between them")
        return None
    ids = [(reply.ids, reply.start) for reply in written.flat]
    own, tokens = _said(policy, ids)
    found = divergence(own, _said(base, ids)[0], tokens, groups, resamples=settings.resamples)
    return {name: estimate.to_dict() for name, estimate in found.items()}


def _curve(
    settings: CompareSettings,
    minds: dict[str, Any],
    asked: list[Any],
    groups: np.ndarray,
    base: Policy,
    ours: Written,
    theirs: Written,
) -> list[dict[str, Any]]:
    """Return for each policy how far it went, and what both reward models think of it, nearest first."""
    each = [prompt for prompt in asked for _ in range(settings.write.responses)]
    points = []
    for name in (settings.policy, theirs.name, *settings.also):
        policy = base if name == theirs.name else writer(settings, name)
        written = {settings.policy: ours, theirs.name: theirs}.get(name) or _write(settings, name, policy, asked)
        means = {role: _mean(mind, each, written, groups) for role, mind in minds.items()}
        away = _divergence(settings, policy, base, written, groups)
        points.append({"policy": name, "divergence": away and away["per_response"], **means})
    return sorted(points, key=lambda point: point["divergence"]["value"] if point["divergence"] else 0.0)


def _mean(model: Any, prompts: list[Any], written: Written, groups: np.ndarray) -> dict[str, Any]:
    found = _scores(model, prompts, written.texts)
    return GroupBootstrap(groups).ratio(found, np.ones(len(found))).to_dict()


def _best_of(
    settings: CompareSettings, minds: dict[str, Any], asked: list[Any], groups: np.ndarray, base: Policy
) -> list[dict[str, Any]]:
    """Sample from the policy that began, choose by --by, and say what it and the gold reward model think of that.

    Without a gold one ``gold`` is null: what chose is no judge of its choice.
    """
    count = max(settings.best_of)
    written = _write(settings, "best of n", base, asked, count)
    each = [prompt for prompt in asked for _ in range(count)]
    roles = ("by", "gold" if "gold" in minds else "by")
    proxy, gold = (_scores(minds[role], each, written.texts).reshape(len(asked), count) for role in roles)
    found = best_of(proxy, gold, settings.best_of, resamples=settings.resamples, groups=groups)
    if "gold" not in minds:
        found = [point | {"gold": None} for point in found]
    return [{k: v.to_dict() if isinstance(v, Estimate) else v for k, v in point.items()} for point in found]


def _texts(path: str) -> list[Any]:
    """Read held-out texts: JSON Lines with ``text``, or paragraphs of a plain file."""
    try:
        content = Path(path).expanduser().read_text(encoding="utf-8")
        if Path(path).suffix in (".jsonl", ".json"):
            found = [str(json.loads(line)["text"]) for line in content.split("\n") if line.strip()]
        else:
            found = [part.strip() for part in content.split("\n\n") if part.strip()]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the held-out texts cannot be read",
            where=path,
            expected='JSON Lines with "text", or a file of paragraphs',
            got=f"{type(error).__name__}: {error}"[:120],
        ) from error
    if not found:
        raise DataError("there are no held-out texts", where=path, expected="one at least")
    return found


def _pairs(asked: list[Any], ours: Written, theirs: Written) -> list[dict[str, Any]]:
    """Return the policy's responses as better than the other's: what a reward that it optimised is recovered from."""
    return [
        {"prompt": prompt, "chosen": [_said_by(one)], "rejected": [_said_by(other)]}
        for prompt, mine, others in zip(asked, ours.replies, theirs.replies, strict=True)
        for one, other in zip(mine, others, strict=True)
        if one.text.strip() != other.text.strip()
    ]


def _said_by(reply: Reply) -> dict[str, str]:
    return {"role": "assistant", "content": reply.text}


def _rows(prompts: Dataset, ours: Written, theirs: Written, preferred: list[float]) -> list[dict[str, Any]]:
    """Return every prompt with the first answers of both, and who was preferred."""
    count, rows = len(preferred) // len(prompts), []
    for number, prompt in enumerate(prompts["prompt"]):
        margin = preferred[number * count]
        own, other = ours.replies[number][0].text, theirs.replies[number][0].text
        rows.append({"prompt": prompt_text(prompt), "policy": own, "against": other, "preferred": word_of(margin)})
    return rows
