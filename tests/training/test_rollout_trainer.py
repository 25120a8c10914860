"""The online trainer: where it comes to rest, that its parts are what they say, and that a killed run goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.credit.answers import Answers
from assay.credit.functions import by_function
from assay.credit.links import AtTheEnd, Link
from assay.credit.spreading import Redistributed
from assay.errors import ConfigError
from assay.scorers import ModelOptions, PolicyOptions, create_policy, create_reward_model
from assay.training.actor import Actor
from assay.training.algorithms import ALGORITHMS, Algorithm, KlControl
from assay.training.planned import TrainingError
from assay.training.rollout_arguments import RolloutArguments
from assay.training.rollout_trainer import RolloutTrainer
from assay.training.rollouts import Prompts

ASKED = ["Name a sea.", "Name a bird.", "What is a river?", "Tell me.", "Say it again.", "And now?"]


def arguments(folder: Path, **changes: Any) -> RolloutArguments:
    given: dict[str, Any] = {
        "prompts_per_cycle": 3,
        "responses": 4,
        "max_new_tokens": 6,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "num_train_epochs": 2,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "seed": 3,
    }
    return RolloutArguments(output_dir=str(folder), **(given | changes))


def trainer_of(
    tiny_causal: Path, folder: Path, algorithm: Algorithm, rewards: Link, asked: list[str] = ASKED, **changes: Any
) -> RolloutTrainer:
    torch.manual_seed(0)
    policy = create_policy(PolicyOptions(str(tiny_causal), max_length_tokens=64))
    actor = Actor(policy, shared=algorithm.needs_critic)
    more = {name: changes.pop(name) for name in ("gold", "held_out") if name in changes}
    return RolloutTrainer(actor, arguments(folder, **changes), Prompts(list(asked)), rewards, algorithm, **more)


def letters(prompts: Any, completions: list[str], **_: Any) -> list[float]:
    return [text.count("a") - 0.1 * len(text) for text in completions]


def test_the_loop_reaches_the_optimum_of_reward_and_divergence(tiny_causal: Path, tmp_path: Path) -> None:
    """World W with as many responses as the tokenizer has tokens: one token is the whole response."""
    beta = 0.5
    worth = np.random.default_rng(0).normal(size=4096)

    def reward(prompts: Any, completions: Any, completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(worth[ids[0]]) for ids in completion_ids]

    algorithm = replace(ALGORITHMS["rloo"], kl=KlControl("reward", beta))
    changes: dict[str, Any] = {"prompts_per_cycle": 1, "responses": 96, "max_new_tokens": 1, "num_train_epochs": 150}
    changes |= {"learning_rate": 1e-2, "lr_scheduler_type": "linear"}
    trainer = trainer_of(tiny_causal, tmp_path, algorithm, by_function(reward), ["Name a sea."], **changes)
    policy = trainer.policy
    begun = policy.encoder.encode(["Name a sea."], ["."])[0]
    ids = torch.tensor([begun.ids[: begun.prompt_tokens]])

    def said() -> torch.Tensor:
        with torch.no_grad():
            return policy.language_model(input_ids=ids).logits[0, -1].double().log_softmax(-1)

    reference = said()
    best = (reference + torch.from_numpy(worth[: len(reference)]) / beta).log_softmax(-1)
    trainer.train()
    away = [float((best.exp() * (best - now)).sum()) for now in (reference, said())]
    assert away[0] > 0.5 and away[1] < 0.12, away
    assert trainer.history()[-1]["divergence"] > 0.2


def test_the_gradient_is_that_of_the_formula(tiny_causal: Path, tmp_path: Path) -> None:
    """RLOO without divergence: mean over responses of -(r - mean of the others) times grad log pi."""
    algorithm = replace(ALGORITHMS["rloo"], kl=KlControl("reward", 0.0), average="sequences")
    trainer = trainer_of(tiny_causal, tmp_path, algorithm, by_function(letters))
    cycle = trainer.collect(0)
    (rows,) = cycle.minibatches(1, 0)
    weight = trainer.policy.language_model.get_input_embeddings().weight
    for budget in (40, 10_000):
        batches = cycle.batches(rows, trainer.layout, budget, trainer.policy.encoder.pad_id)
        loss = sum(trainer._loss(trainer.model, batch) for batch in batches) / len(rows)
        (found,) = torch.autograd.grad(loss, weight)  # type: ignore[arg-type]
        answers = cycle.answers
        rewards = np.array(letters(None, answers.texts))
        expected = torch.zeros(())
        for row in rows:
            others = [k for k in rows if answers.groups[k] == answers.groups[row] and k != row]
            logits = trainer.policy.language_model(input_ids=torch.tensor(answers.sequences[row][None])).logits[0]
            start = answers.starts[row]
            said = logits[start - 1 : -1].log_softmax(-1)[torch.arange(len(answers.ids(row))), answers.ids(row)]
            expected = expected - (rewards[row] - rewards[others].mean()) * said.mean() / len(rows)
        (wanted,) = torch.autograd.grad(expected, weight)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_raises_the_reward(tiny_causal: Path, tmp_path: Path, name: str) -> None:
    algorithm = ALGORITHMS[name]
    # GPO's beta of 0.001 is for large models and tiny steps
    algorithm = replace(algorithm, kl=KlControl("reward", 0.0), beta=1.0 if name == "gpo" else algorithm.beta)
    changes: dict[str, Any] = {"num_train_epochs": 12, "minibatches": 3, "learning_rate": 1e-2, "responses": 8}
    trainer = trainer_of(tiny_causal, tmp_path, algorithm, by_function(letters), **changes)
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.history()]
    assert len(rewards) == 24 and np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.2, rewards


def test_a_run_that_was_stopped_goes_on_with_the_same_curve(tiny_causal: Path, tmp_path: Path) -> None:
    algorithm = replace(ALGORITHMS["ppo"], kl=KlControl("reward", 0.05, target=1.0, horizon=100))
    changes: dict[str, Any] = {
        "num_train_epochs": 4,
        "minibatches": 2,
        "inner_epochs": 2,
        "save_strategy": "steps",
        "save_every": 2,
    }

    class Stopping(AtTheEnd):
        def __call__(self, answers: Answers) -> Any:
            if answers.cycle == 5:
                raise KeyboardInterrupt
            return super().__call__(answers)

    def reward(answers: Answers) -> list[float]:
        return letters(None, answers.texts)

    from assay.credit.links import Standard

    whole = trainer_of(tiny_causal, tmp_path / "whole", algorithm, AtTheEnd("r", reward, Standard()), **changes)
    whole.train()
    killed = trainer_of(tiny_causal, tmp_path / "killed", algorithm, Stopping("r", reward, Standard()), **changes)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    again = trainer_of(tiny_causal, tmp_path / "killed", algorithm, AtTheEnd("r", reward, Standard()), **changes)
    again.train(resume_from_checkpoint=True)
    timed = ("seconds", "loss", "grad_norm")
    sides = [
        [{k: v for k, v in entry.items() if not k.startswith(timed)} for entry in one.history()]
        for one in (whole, again)
    ]
    assert len(sides[0]) == 8 and [entry["cycle"] for entry in sides[1]] == list(range(1, 9))
    for one, other in zip(*sides, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name] == pytest.approx(other[name], abs=1e-5), name
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_credit_and_an_offset_of_the_critic_are_one_run(tiny_causal: Path, tmp_path: Path, learned: Any) -> None:
    model = learned(create_reward_model(ModelOptions(backbone=str(tiny_causal), max_length_tokens=64)))
    histories = {}
    arms: dict[str, dict[str, Any]] = {"credit": {}, "offset": {"as_offset": True}, "sparse": {"mix": 0.0}}
    for name, options in arms.items():
        link = Redistributed("model", model, **options)
        algorithm = replace(ALGORITHMS["ppo"], value_clip=None)
        trainer = trainer_of(tiny_causal, tmp_path / name, algorithm, link, minibatches=2)
        trainer.train()
        histories[name] = [entry["part: model"] for entry in trainer.history()]
    assert histories["credit"] == pytest.approx(histories["offset"], abs=1e-4)
    assert np.abs(np.subtract(histories["credit"], histories["sparse"])).max() > 1e-3


def test_a_reward_model_may_be_the_critic_to_begin_with(tiny_causal: Path, tmp_path: Path, learned: Any) -> None:
    model = learned(create_reward_model(ModelOptions(backbone=str(tiny_causal), max_length_tokens=64)))
    critic = learned(create_reward_model(ModelOptions(backbone=str(tiny_causal), max_length_tokens=64)))
    torch.manual_seed(0)
    policy = create_policy(PolicyOptions(str(tiny_causal), max_length_tokens=64))
    args = arguments(tmp_path, critic_learning_rate=1e-2, save_strategy="steps", save_every=1)
    trainer = RolloutTrainer(Actor(policy, critic), args, Prompts(ASKED), Redistributed("m", model), ALGORITHMS["ppo"])
    cycle = trainer.collect(0)
    answers = cycle.answers
    prefix = model.prefix_scores(answers.prompts[0], answers.texts[0])
    first = cycle.of_tokens["former"][: answers.lengths[0]]
    if answers.ended[0]:  # else the reward model reads an end that the policy did not write
        np.testing.assert_allclose(first, prefix[:-1], atol=1e-4)
    rates = {group["lr"] for group in trainer.create_optimizer().param_groups}
    assert rates == {3e-3, 1e-2}
    trainer.train()
    assert (tmp_path / "checkpoint-4" / "critic").is_dir()


def test_responses_without_a_reward_are_left_out_and_counted(tiny_causal: Path, tmp_path: Path) -> None:
    def reward(prompts: Any, completions: list[str], **_: Any) -> list[float | None]:
        found: list[float | None] = list(letters(prompts, completions))
        found[0], found[5] = None, float("nan")
        return found

    trainer = trainer_of(tiny_causal, tmp_path, ALGORITHMS["rloo"], by_function(reward))
    cycle = trainer.collect(0)
    assert cycle.kept.sum() == 10 and not cycle.kept[0] and not cycle.kept[5]
    assert trainer._pending["left out: without reward"] == 2
    (rows,) = cycle.minibatches(1, 0)
    assert sorted(rows) == np.flatnonzero(cycle.kept).tolist()
    # the others of their groups are compared among themselves
    offsets, rewards = cycle.answers.offsets, np.array(letters(None, cycle.answers.texts))
    assert cycle.of_tokens["advantages"][offsets[1]] == pytest.approx(rewards[1] - rewards[2:4].mean(), abs=1e-4)
    none = trainer_of(
        tiny_causal, tmp_path, ALGORITHMS["rloo"], by_function(lambda completions, **_: [None] * len(completions))
    )
    with pytest.raises(TrainingError, match="no response has a reward"):
        none.train()


def test_a_response_that_is_left_alone_teaches_nothing(tiny_causal: Path, tmp_path: Path) -> None:
    def reward(prompts: Any, completions: list[str], **_: Any) -> list[float | None]:
        found: list[float | None] = [1.0 * k for k in range(len(completions))]
        return [None if k in (0, 1, 2) else value for k, value in enumerate(found)]

    trainer = trainer_of(tiny_causal, tmp_path, ALGORITHMS["rloo"], by_function(reward))
    cycle = trainer.collect(0)
    assert cycle.kept.sum() == 8 and trainer._pending["left out: responses with nothing to compare"] == 1


def test_a_small_budget_parts_the_responses_to_a_prompt(tiny_causal: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_causal, tmp_path, ALGORITHMS["rloo"], by_function(letters), responses=6)
    cycle = trainer.collect(0)
    rows = np.flatnonzero(cycle.kept)
    for budget in (1, 30, 60, 10_000):
        batches = cycle.batches(rows, trainer.layout, budget, trainer.policy.encoder.pad_id)
        assert sum(len(batch["mask"]) for batch in batches) == len(rows)
        largest = max(sum(rows_["input_ids"].numel() for rows_ in batch["rows"]) for batch in batches)
        assert len(batches) == len(rows) if budget == 1 else largest <= 2 * budget


def test_what_a_folder_says_of_sampling_is_left_out(tiny_causal: Path) -> None:
    from assay.scorers.sampling import Sampling, replies

    policy = create_policy(PolicyOptions(str(tiny_causal), max_length_tokens=64))
    plain = replies(policy, ASKED[:2], Sampling(2, 8), 1)
    policy.language_model.generation_config.repetition_penalty = 50.0
    again = replies(policy, ASKED[:2], Sampling(2, 8), 1)
    assert [[reply.text for reply in own] for own in plain] == [[reply.text for reply in own] for own in again]
    assert policy.language_model.generation_config.repetition_penalty == 50.0


def test_prompts_of_equal_rewards_and_outside_the_band_are_left_out(tiny_causal: Path, tmp_path: Path) -> None:
    def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [float(k % 2) if prompt == ASKED[0] else 1.0 for k, prompt in enumerate(prompts)]

    chosen: Any = {"prompts_per_cycle": 6}
    equal = replace(ALGORITHMS["grpo"], drop_equal=True)
    trainer = trainer_of(tiny_causal, tmp_path, equal, by_function(reward), **chosen)
    cycle = trainer.collect(0)
    assert cycle.kept.sum() == 4 and trainer._pending["left out: prompts of equal rewards"] == 5
    banded = trainer_of(
        tiny_causal, tmp_path, replace(equal, drop_equal=False, band=(0.2, 0.8)), by_function(reward), **chosen
    )
    assert banded.collect(0).kept.sum() == 4 and banded._pending["left out: prompts outside the band"] == 5
    # where nothing is left, nothing is learned
    same = trainer_of(tiny_causal, tmp_path, equal, by_function(lambda completions, **_: [1.0] * len(completions)))
    before = [parameter.clone() for parameter in same.model.parameters()]
    same.train()
    assert all(torch.equal(one, other) for one, other in zip(before, same.model.parameters(), strict=True))


def test_a_reference_is_reset_where_nothing_gets_better(tiny_causal: Path, tmp_path: Path) -> None:
    algorithm = replace(ALGORITHMS["grpo"], reset_after=2, kl=KlControl("k2", 0.01))
    rewards = iter(range(1000, 0, -1))
    falling: Callable[..., Any] = lambda completions, **_: [  # noqa: E731
        next(rewards) + 0.1 * k for k in range(len(completions))
    ]
    trainer = trainer_of(tiny_causal, tmp_path, algorithm, by_function(falling, "falling"), num_train_epochs=4)
    trainer.train()
    history = trainer.history()
    resets = [entry["cycle"] for entry in history if "reset" in entry]
    assert resets == [3, 5, 7]
    for cycle in resets:
        assert history[cycle]["divergence"] == pytest.approx(0, abs=1e-4)  # the cycle after
    assert history[2]["divergence"] > 1e-3


def test_gold_and_held_out_prompts_are_watched(tiny_causal: Path, tmp_path: Path) -> None:
    held_out = Prompts(["Name one.", "Name two."])
    trainer = trainer_of(
        tiny_causal,
        tmp_path,
        ALGORITHMS["rloo"],
        by_function(letters),
        gold=lambda answers: [float(len(text)) for text in answers.texts],
        held_out=held_out,
        evaluate_every=2,
    )
    trainer.train()
    history = trainer.history()
    assert all("gold" in entry for entry in history)
    assert ["held-out reward" in entry for entry in history] == [False, True, False, True]


def test_every_prompt_is_asked_before_any_is_asked_again(tiny_causal: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_causal, tmp_path, ALGORITHMS["rloo"], by_function(letters), prompts_per_cycle=4)
    asked = np.concatenate([trainer.asked_in(cycle) for cycle in range(3)])
    assert sorted(asked[:6]) == sorted(asked[6:]) == list(range(6))
    assert trainer.asked_in(1).tolist() == asked[4:8].tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"responses": 1}, "a response is compared with others"),
        ({"temperature": 0.0}, "what is always the same teaches nothing"),
        ({"prompts_per_cycle": 7}, "there are 6 prompts"),
        ({"minibatches": 4}, "which stay whole"),
        ({"max_new_tokens": 0}, "must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(tiny_causal: Path, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        trainer_of(tiny_causal, tmp_path, ALGORITHMS["rloo"], by_function(letters), **changes)


def test_algorithms_out_of_range_are_refused() -> None:
    for changes in ({"low": 1.0}, {"discount": 1.1}, {"beta": 0.0}, {"kl": KlControl("reward", -1.0)}):
        with pytest.raises(ConfigError, match="out of range"):
            replace(ALGORITHMS["ppo"], **changes)


def test_a_reward_that_is_no_number_stops_training(tiny_causal: Path, tmp_path: Path) -> None:
    several: list[Any] = [lambda completions, **_: ["x"] * len(completions), lambda completions, **_: [1.0]]
    for wrong in several:
        trainer = trainer_of(tiny_causal, tmp_path, ALGORITHMS["rloo"], by_function(wrong, "mine"))
        with pytest.raises(Exception, match=r"a reward is no number|another number of responses"):
            trainer.train()
    assert not os.listdir(tmp_path)


def test_a_run_is_another_where_what_is_told_of_prompts_is(tiny_causal: Path, tmp_path: Path) -> None:
    def digest(truths: list[str]) -> str:
        trainer = trainer_of(tiny_causal, tmp_path, ALGORITHMS["rloo"], by_function(letters))
        trainer.prompts = Prompts(["Q", "R"], {"ground_truth": truths})
        return trainer._digest(trainer.args)

    assert digest(["1", "2"]) == digest(["1", "2"]) != digest(["1", "3"])
