"""From settings to the chain of rewards, the algorithm and the critic of an online run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from assay.console import say
from assay.credit import Multiplier
from assay.credit.answers import Answers
from assay.credit.combining import Capped, Length, Routed, Safe, Weighted
from assay.credit.functions import by_function, by_model, by_server, function_from
from assay.credit.links import AtTheEnd, Link, Standard
from assay.credit.mixing import QUANTILES, label_cap
from assay.credit.spreading import ByAttention, Redistributed
from assay.errors import ConfigError, ModelError
from assay.evaluation.words import percent
from assay.feedback.records import prompt_text
from assay.scorers import ModelOptions, Policy, backbones, create_reward_model
from assay.scorers.engines import Vllm, continuous
from assay.scorers.judges import graded
from assay.scorers.loading import load_reward_model
from assay.scorers.policy_loading import plain_folder
from assay.scorers.prefixes import why_no_prefix_scores
from assay.scorers.remote_reward import RemoteReward
from assay.scorers.sampling import Writer, by_generate
from assay.scorers.verifiers import Majority, Verifier
from assay.training.actor import Actor
from assay.training.algorithms import ALGORITHMS, Algorithm, KlControl
from assay.workflows import hardware
from assay.workflows.judge_functions import judge_of
from assay.workflows.online_settings import BY_LABEL, OF_PREFIXES, OnlineSettings, VerifierSettings

#: Share of wrong answers above the cap beyond which it is warned that the label hardly counts.
WRONG_ABOVE = 0.25


def algorithm_of(settings: OnlineSettings) -> Algorithm:
    """Return the method with what the settings change of it."""
    usual, given = ALGORITHMS[settings.method], settings.kl
    kl = KlControl(
        given.kind or usual.kl.kind,
        usual.kl.coefficient if given.coefficient is None else given.coefficient,
        given.target,
        given.horizon,
    )
    own: dict[str, Any] = {
        "low": settings.low,
        "high": settings.high,
        "average": settings.average,
        "whiten": settings.whiten,
    }
    return replace(
        usual,
        kl=kl,
        discount=settings.discount,
        trace=settings.trace,
        beta=settings.beta,
        value_weight=settings.critic.weight,
        value_clip=settings.critic.clip,
        drop_equal=settings.drop_equal,
        band=settings.band,
        reset_after=settings.reset_after,
        **{name: value for name, value in own.items() if value is not None},
    )


def rewards_of(settings: OnlineSettings) -> Link:
    """Return the chain of rewards; models are loaded here, once each.

    Raises
    ------
    AssayError
        If a model, a file or an address is none, or a model cannot score prefixes where that is asked for.
    """
    loaded: dict[str, Any] = {}
    main = _sources(settings, loaded)
    if settings.cost is not None:
        cost = _of_model(settings, settings.cost.model, "cost", loaded)
        multiplier = Multiplier(settings.cost.budget, settings.cost.rate, settings.cost.start)
        main = Safe(main, cost, multiplier)
    length = settings.length
    if length.per_token or length.no_end:
        main = Weighted([(main, 1.0), (Length(length.per_token, length.free, length.no_end), 1.0)])
    return main


def _capped(settings: OnlineSettings, main: Link, loaded: dict[str, Any]) -> Link:
    """Return the link under the cap of RLLR's mix, with the reward of rationales; without one, the link itself."""
    if settings.rationale is None:
        return main
    return Capped(main, _of_model(settings, settings.rationale.model, "rationale", loaded), _cap(settings, loaded))


def _cap(settings: OnlineSettings, loaded: dict[str, Any]) -> float:
    """Return the cap of the main reward: as given, or a quantile of what its model gave held-out right answers."""
    given, name = settings.rationale, settings.reward.model
    assert given is not None
    score = {} if name is None else loaded[name].record.score or {}
    if given.cap is not None:
        cap = given.cap
    elif "preferred" in score:
        cap = label_cap(score["preferred"], given.quantile)  # linear between the stored quantiles
        say(f"the reward of labels is capped at {cap:.3f}, quantile {given.quantile:g} of held-out right answers")
    else:
        raise ConfigError(
            "this reward model does not know what right answers score",
            where=name,
            expected="one that was trained with held-out judgements (--validation-share, --test), or out of fold",
            remedy="train it with some, or say --rationale.cap NUMBER",
        )
    if "rejected" in score:
        above = 1 - float(np.interp(cap, score["rejected"], QUANTILES, left=0.0, right=1.0))
        doubt = "warning: " if above > WRONG_ABOVE else ""
        say(
            f"{doubt}{percent(above)} of held-out wrong answers score above the cap too, and earn as much as right ones"
        )
    return cap


def _sources(settings: OnlineSettings, loaded: dict[str, Any]) -> Link:
    given, links = settings.reward, list[Link]()
    if given.model:
        links.append(_capped(settings, _of_model(settings, given.model, "model", loaded, rewards=True), loaded))
    if given.routes:
        links.append(
            Routed("task", {task: _route(settings, task, name, loaded) for task, name in given.routes.items()})
        )
    if given.verifier:
        links.append(by_function(_verifier(given.verifier)))
    links += [by_function(function_from(place), place) for place in given.functions]
    if given.urls:
        server = RemoteReward(given.urls, key_variable=given.key_variable, timeout=given.timeout, tries=given.tries)
        links.append(by_server(server))
    if given.judge:
        judge = judge_of(given.judge)

        def grades(answers: Answers) -> Any:
            asked = [p if isinstance(p, str) else prompt_text(p) for p in answers.prompts]  # type: ignore[arg-type]
            return graded(judge, asked, answers.texts)

        links.append(AtTheEnd("judge", grades))
    if not given.model:
        # settings see to it that there is one source alone
        links[0] = _capped(settings, links[0], loaded)
    weights = given.weights or (1.0,) * len(links)
    return links[0] if len(links) == 1 and weights == (1.0,) else Weighted(list(zip(links, weights, strict=True)))


def _verifier(given: VerifierSettings) -> Any:
    return Majority(verifier_of(given)) if given.majority else verifier_of(given)


def verifier_of(given: VerifierSettings) -> Verifier:
    """Return what compares answers with truths."""
    return Verifier(given.kind, given.pattern, given.right, given.wrong, given.unparsed, given.column, given.bounds)


def _route(settings: OnlineSettings, task: str, name: str, loaded: dict[str, Any]) -> Link:
    role = f"reward of {task}"
    if name != BY_LABEL:
        return _of_model(settings, name, role, loaded, rewards=True)
    return replace(by_function(Verifier("label"), role), standard=Standard() if settings.reward.normalise else None)


def _of_model(settings: OnlineSettings, name: str, role: str, loaded: dict[str, Any], *, rewards: bool = False) -> Link:
    """Return a model's link; what the reward's settings say of scale and doubt is not of costs and rationales."""
    if name not in loaded:
        loaded[name] = load_reward_model(name).to(hardware.best_device())
    model, standard = loaded[name], Standard() if settings.reward.normalise and rewards else None
    if settings.credit == "terminal":
        return by_model(model, role, standard, settings.reward.lower_by if rewards else None)
    given = settings.redistribution
    if settings.credit == "attention":
        return ByAttention(role, model, standard=standard)
    reason = why_no_prefix_scores(model)
    if settings.credit in OF_PREFIXES and reason is not None:
        raise ModelError(
            "this reward model cannot tell what each token earned",
            where=name,
            expected="a causal reward model: each earlier state must not have seen what follows",
            got=reason,
            remedy="train with a causal --backbone, or leave out --credit",
        )
    return Redistributed(
        role,
        model,
        given.first_token,
        given.mix,
        given.by,
        standard,
        shuffle=settings.seed if settings.credit == "shuffled" else None,
        even=settings.credit == "uniform",
        as_offset=settings.credit == "critic_offset",
        token_budget=settings.token_budget,
    )


def writer_of(settings: OnlineSettings) -> Writer:
    """Return the engine that writes.

    Raises
    ------
    ConfigError
        If vLLM is asked for, and not installed.
    """
    engine = settings.rollout.engine
    if engine == "vllm":
        place = plain_folder(settings.backbone)
        return Vllm(place, memory=settings.rollout.engine_memory, longest=settings.max_length_tokens)
    return continuous if engine == "continuous" else by_generate


def actor_of(settings: OnlineSettings, policy: Policy, algorithm: Algorithm) -> Actor:
    """Return the policy with the critic that the method needs."""
    if not algorithm.needs_critic:
        return Actor(policy)
    if settings.critic.kind == "shared":
        return Actor(policy, shared=True)
    begin = settings.critic.begin
    if begin == "auto":
        # what is still to come of redistributed rewards is 0 at first, and not the score so far
        sparse = settings.credit not in ("redistributed", "critic_offset") and not settings.reward.normalise
        fits = sparse and settings.reward.model is not None
        begin = "reward" if fits and _may_be_critic(policy, settings.reward.model) else "policy"
        say(f"the critic begins as the {'reward model' if begin == 'reward' else 'policy, with a new head'}")
    if begin == "policy":
        place = plain_folder(settings.backbone)
        made = create_reward_model(ModelOptions(backbone=place, dropout="none", seed=settings.seed, template="plain"))
        return Actor(policy, made)
    name = settings.reward.model if begin == "reward" else begin
    if name is None:
        raise ConfigError("there is no reward model for the critic to begin as", where="critic.begin")
    # a model of its own: the one that rewards stays as it is
    critic = load_reward_model(name)
    for part, parameter in critic.named_parameters():
        parameter.requires_grad_(not critic.config.adapter or "lora_" in part or part.startswith("head."))
    backbones.switch_off_dropout(critic.backbone)
    return Actor(policy, critic)


def _may_be_critic(policy: Policy, name: str | None) -> bool:
    """Tell whether a reward model reads the policy's tokens and scores prefixes."""
    if name is None:
        return False
    model = load_reward_model(name)
    same = model.encoder.tokenizer.get_vocab() == policy.encoder.tokenizer.get_vocab()
    return same and why_no_prefix_scores(model) is None and model.config.members == 1
