"""Policies that learn in rounds from what they wrote themselves: SELM and SAPO, on the one training of a round."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset

from assay.console import say
from assay.errors import DataError
from assay.feedback import as_chat, comparison, from_rows, pairs, split
from assay.feedback.records import edge
from assay.feedback.replay import ReplayBuffer
from assay.output import write_json
from assay.scorers import Policy, create_policy
from assay.scorers.loading import load_reward_model
from assay.scorers.sampling import Sampling, adds_a_blank, continuations, ends_of_replies, leave_room, no_room, replies
from assay.workflows import hardware
from assay.workflows.aligning import calibrate, fit_policy
from assay.workflows.data import Shares
from assay.workflows.fits import Fit
from assay.workflows.options import policy_options
from assay.workflows.policy_references import Compared
from assay.workflows.policy_settings import AlignSettings, SapoSettings, SelmSettings
from assay.workflows.policy_teaching import encoded, learned_from, taught_from

_DONE = "metrics.json"


@dataclass(frozen=True)
class Round:
    """What one round learns from.

    Attributes
    ----------
    data
        Comparisons.
    changed
        Settings that are other ones in this round.
    told
        Counts, for the history.
    reference
        What the policy is compared with; None: itself, as it begins the round.
    """

    data: Dataset
    changed: dict[str, Any]
    told: dict[str, Any]
    reference: Policy | None = None


#: Gives the next round, from the policy as it is.
Source = Callable[[Policy], Round]


def fit_in_rounds(settings: AlignSettings, shares: Shares, folder: Path, compared: Compared) -> Fit:
    """Train round after round; each begins with the policy of the one before, and is compared with it.

    ``round-K/`` holds the policy and the metrics of every round, and an interrupted run goes on after the last one that
    was finished. The result is the last round's policy, as a scorer compared with the policy before all rounds.
    """
    given, result = settings.rounds, None
    assert given is not None
    drawn = _sapo(settings, given, shares, compared) if isinstance(given, SapoSettings) else None
    rounds = drawn or _selm(settings, cast(SelmSettings, given), shares)
    history, policy, began = [], compared.policy, settings.backbone
    for number, make in enumerate(rounds):
        place = folder / f"round-{number}"
        own = settings.model_copy(update={"rounds": None, "backbone": began, "resume": False})
        if (place / _DONE).is_file():
            told = json.loads((place / _DONE).read_text(encoding="utf-8"))
            if drawn is not None:
                make(policy)  # draws again what stands in the buffer by now
            policy = create_policy(policy_options(own.model_copy(update={"backbone": str(place / "model")})))
        else:
            one = make(policy)
            shutil.rmtree(place, ignore_errors=True)
            own = own.model_copy(update=one.changed)
            fresh = create_policy(policy_options(own))
            fresh.record.policy["reference"] = own.compared_with
            result = fit_policy(
                own, replace(shares, fit=one.data), place / "work", Compared(own, fresh, one.reference, [])
            )
            policy = result.model
            _as_from_the_start(policy, compared)
            policy.record.calibration = None  # it was that of margins against the round before
            policy.save_pretrained(place / "model")
            shutil.rmtree(place / "work", ignore_errors=True)
            told = {**one.told, "validation_loss": result.validation_loss, "train_loss": result.train_loss}
            write_json(place / _DONE, told)
        counts = {name: value for name, value in told.items() if isinstance(value, int)}
        say(f"round {number}: {', '.join(f'{value:,} {name}' for name, value in counts.items())}")
        history.append(told)
        began = str(place / "model")
    return _finished(settings, shares, compared, policy, result, history)


def _as_from_the_start(policy: Policy, compared: Compared) -> None:
    """Let a policy's record say that it began as the policy before all rounds, and is compared with that."""
    record = compared.policy.record
    policy.record.policy |= {name: record.policy[name] for name in ("base", "reference")}
    policy.record.fingerprint["base"] = record.fingerprint["base"]


def _finished(
    settings: AlignSettings,
    shares: Shares,
    compared: Compared,
    policy: Policy,
    result: Fit | None,
    history: list[dict[str, Any]],
) -> Fit:
    """Compare the last policy with the one before all rounds, and calibrate it so."""
    _as_from_the_start(policy, compared)
    policy.reference = compared.for_scoring(policy)
    found = replace(result, model=policy) if result is not None else Fit(policy)
    found.feedback = {**found.feedback, "rounds": history}
    if shares.validation is not None:
        plain = settings.model_copy(update={"optimism": 0.0})
        held_out, elsewhere = encoded(plain, shares.validation, policy)
        taught = taught_from(plain, shares.validation, held_out, like=found.taught)
        calibrate(plain, found, learned_from(plain, policy, taught, elsewhere))
    return found


def _selm(settings: AlignSettings, given: SelmSettings, shares: Shares) -> Iterator[Source]:
    """Yield the rounds of SELM: preferences first, then extremes among them and the policy's own answers."""
    rest, parts = shares.fit, []
    for left in range(given.count, 1, -1):
        rest, part = split(rest, test=1 / left, seed=settings.seed + left)
        parts.append(part)
    parts.append(rest)
    ranker = load_reward_model(given.ranker)
    for number, part in enumerate(parts):
        rate = (settings.learning_rate or 0.0) * (given.last_rate if number == len(parts) - 1 else 1.0)
        changed = {"learning_rate": rate or None, "optimism": given.alpha}

        yield partial(_selm_round, given, part, changed, ranker, settings.seed) if number else partial(_given, part)


def _given(part: Dataset, policy: Policy) -> Round:
    return Round(part, {}, {"judgements": len(pairs(part))})


def _selm_round(
    given: SelmSettings, part: Dataset, changed: dict[str, Any], ranker: Any, seed: int, policy: Policy
) -> Round:
    data, told = with_own(part, policy, ranker, given.max_new_tokens, seed)
    return Round(data, changed, told)


def with_own(data: Dataset, policy: Policy, ranker: Any, new: int, seed: int) -> tuple[Dataset, dict[str, int]]:
    """Let the policy answer every prompt too (greedily), rank all responses, and judge the best against the worst.

    The ranker sees texts alone, not whose they are (Zhang et al. 2024). Prompts whose responses score alike are left
    out, and so are those that leave no room for an answer. The policy's answers are marked as its own.

    Raises
    ------
    DataError
        If nothing is left.
    """
    room = leave_room(policy, [as_chat(row) for row in data["prompt"]], new)
    data, crowded = data.select(np.flatnonzero(room)), int((~room).sum())
    if not len(data):
        raise no_room(crowded, new)
    asked = [as_chat(row) for row in data["prompt"]]
    answers = [own[0].text for own in replies(policy, asked, Sampling(1, new, 0.0), seed)]
    texts = [[*responses, answer] for responses, answer in zip(data["responses"], answers, strict=True)]
    each = [(prompt, text) for prompt, own in zip(asked, texts, strict=True) for text in own]
    ranker.to(hardware.best_device())
    scores = np.asarray(ranker.score([prompt for prompt, _ in each], [text for _, text in each]), np.float64)
    rows, first, won = [], 0, 0
    for prompt, own, group in zip(asked, texts, data["split_group"], strict=True):
        score = scores[first : first + len(own)]
        first += len(own)
        best, worst = int(score.argmax()), int(score.argmin())
        if score[best] == score[worst] or own[best] == own[worst]:
            continue
        won += best == len(own) - 1
        marks = [{"own": place == len(own) - 1} for place in range(len(own))]
        judged = [edge(best, worst, source="ranker")]
        rows.append(comparison(prompt, own, judged, split_group=group, meta={"responses": marks}))
    if not rows:
        raise DataError("the ranker scores all responses alike", expected="one that tells some of them apart")
    return from_rows(rows), {
        "judgements": len(rows),
        "won by the policy's own answer": won,
        "left out for want of room": crowded,
    }


def _sapo(settings: AlignSettings, given: SapoSettings, shares: Shares, compared: Compared) -> Iterator[Source]:
    """Yield the rounds of SAPO: good answers against themselves with a piece grown anew by an average of the policy."""
    golds = _golds(shares.fit)
    buffer: ReplayBuffer[dict[str, Any]] = ReplayBuffer(given.buffer)
    random = np.random.default_rng((settings.seed, 5))
    average = copy.deepcopy(compared.policy.language_model).eval().requires_grad_(False)
    begun = False

    def make(policy: Policy) -> Round:
        nonlocal begun
        if begun:
            _towards(average, policy.language_model, given.factor)
        begun = True
        slow = create_policy(policy_options(settings))
        slow.language_model.load_state_dict(average.state_dict())
        made, told = regrown(golds, slow.to(hardware.best_device()), given, random)
        for key, row in made.items():
            buffer.put(key, row)
        drawn = buffer.draw(given.pairs, random)
        return Round(from_rows(drawn), {}, {**told, "drawn": len(drawn)}, slow)

    for _ in range(given.count):
        yield make


def _golds(data: Dataset) -> list[dict[str, Any]]:
    """Return the better response of every judgement that takes a side, once, with its prompt."""
    view = pairs(data)
    found: dict[tuple[int, int], None] = {}
    for row, a, b, p, w in zip(view.row, view.a, view.b, view.p, view.w, strict=True):
        if p != 0.5 and w > 0:
            found.setdefault((int(row), int(a if p > 0.5 else b)), None)
    rows = data.select_columns(["prompt", "responses", "split_group", "prompt_id"])
    taken = {row: rows[row] for row, _ in found}
    return [
        {
            "prompt": as_chat(taken[row]["prompt"]),
            "gold": taken[row]["responses"][place],
            "group": taken[row]["split_group"],
            "key": f"{taken[row]['prompt_id']} {place}",
        }
        for row, place in found
    ]


def regrown(
    golds: list[dict[str, Any]], policy: Policy, given: SapoSettings, random: np.random.Generator
) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Cut good answers, let a policy write a piece anew, and put the rest back on: it loses against the whole.

    Where the policy ends its answer in the piece, nothing is put back. Losers that equal the good answer are dropped.

    Returns
    -------
    tuple
        Records by the key of the good answer, and counts.
    """
    chosen = [golds[int(k)] for k in random.permutation(len(golds))[: given.pairs]]
    encoder = policy.encoder
    encoded_golds = encoder.encode([one["prompt"] for one in chosen], [one["gold"] for one in chosen])
    begun, cuts = [], []
    for e in encoded_golds:
        # at least the token that ends it is left to be grown
        cut = int(random.integers(e.prompt_tokens, max(len(e.ids) - len(encoder.tail), e.prompt_tokens + 1)))
        cuts.append(cut)
        begun.append(list(e.ids[:cut]))
    how = Sampling(1, given.tokens, given.temperature, given.top_p, given.top_k)
    ends = ends_of_replies(policy)
    torch.manual_seed(int(random.integers(2**31)))
    made, told = {}, {"regrown": len(chosen), "equal to the good answer": 0}
    with torch.no_grad():
        for row, new, ended in continuations(policy.language_model, begun, ends, encoder.pad_id, how):
            e, one = encoded_golds[row], chosen[row]
            tail = [] if ended else list(e.ids[cuts[row] + given.tokens :])
            ids = [*begun[row][e.prompt_tokens :], *new, *tail]
            loser = encoder.tokenizer.decode([token for token in ids if token not in ends], skip_special_tokens=True)
            if adds_a_blank(policy, one["prompt"], e.ids[: e.prompt_tokens]):
                loser = loser.removeprefix(" ")
            if loser.strip() == one["gold"].strip() or not loser.strip():
                told["equal to the good answer"] += 1
                continue
            judged = [edge(0, 1, source="regrown")]
            made[one["key"]] = comparison(one["prompt"], [one["gold"], loser], judged, split_group=one["group"])
    if not made:
        raise DataError(
            "no good answer was changed by growing a piece of it anew",
            expected="a policy that does not repeat them word by word",
            got=f"{len(chosen)} answers",
            remedy="raise --rounds.tokens or --rounds.temperature",
        )
    return made, told


@torch.no_grad()
def _towards(average: torch.nn.Module, moved: torch.nn.Module, factor: float) -> None:
    """Move an average of weights: ``factor`` of it is kept."""
    for kept, now in zip(average.parameters(), moved.parameters(), strict=True):
        kept.lerp_(now.detach().to(kept), 1.0 - factor)
