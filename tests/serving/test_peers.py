"""Our reward models in the loops of TRL, OpenRLHF and verl: what they are given, and what comes back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from assay.errors import ConfigError, DataError, ModelError
from assay.scorers import ModelOptions, RewardModel, create_reward_model
from assay.serving.openrlhf_reward import CreditHook, reward_function, write_reward_file
from assay.serving.trl_rewards import TrlReward, token_credit_trainer
from assay.serving.verl_manager import RewardManager, score_function

PROMPTS = ["Name a sea.", "What is a bird?"]
TEXTS = ["The Baltic.", "It flies."]


@pytest.fixture(scope="module")
def model(tiny_causal: Path, learned: Any) -> RewardModel:
    return learned(create_reward_model(ModelOptions(backbone=str(tiny_causal), max_length_tokens=64)))


def test_a_reward_function_of_trl(model: RewardModel) -> None:
    """The call as TRL makes it: strings and conversations, by keyword, columns beside."""
    reward = TrlReward(model)
    expected = model.score(PROMPTS, TEXTS).tolist()
    ids = [[1, 2], [3]]
    found = reward(prompts=PROMPTS, completions=TEXTS, completion_ids=ids, ground_truth=["4", "4"], trainer_state=None)
    assert found == pytest.approx(expected) and all(isinstance(value, float) for value in found)
    chats = [[{"role": "user", "content": text}] for text in PROMPTS]
    answers = [[{"role": "assistant", "content": text}] for text in TEXTS]
    assert reward(prompts=chats, completions=answers, completion_ids=ids) == pytest.approx(expected)
    assert reward.__name__ == "assay"


def test_what_was_spent_before_each_token(model: RewardModel) -> None:
    reward, tokenizer = TrlReward(model), model.encoder.tokenizer
    encoded = model.encoder.encode(PROMPTS, TEXTS)
    ids = [list(one.ids[one.prompt_tokens :]) for one in encoded]
    for own, prompt, text in zip(reward.spent(PROMPTS, TEXTS, ids, tokenizer), PROMPTS, TEXTS, strict=True):
        scores = model.prefix_scores(prompt, text)
        np.testing.assert_allclose(own, scores[:-1] - scores[0], atol=1e-4)


class Silent:
    """A reward model whose first score is no number."""

    def __init__(self, model: RewardModel) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def score(self, *given: Any, **more: Any) -> np.ndarray:
        found = self.model.score(*given, **more).copy()
        found[0] = np.nan
        return found

    def prefix_scores_encoded(self, encoded: Any, **more: Any) -> list[np.ndarray]:
        found = self.model.prefix_scores_encoded(encoded, **more)
        return [np.full_like(found[0], np.nan), *found[1:]]


def test_nothing_was_spent_where_a_score_is_no_number(model: RewardModel) -> None:
    reward, tokenizer = TrlReward(model), model.encoder.tokenizer
    ids = [list(one.ids[one.prompt_tokens :]) for one in model.encoder.encode(PROMPTS, TEXTS)]
    whole = reward.spent(PROMPTS, TEXTS, ids, tokenizer)
    reward.model = reward.link.model = Silent(model)
    assert reward(prompts=PROMPTS, completions=TEXTS)[0] is None
    found = reward.spent(PROMPTS, TEXTS, ids, tokenizer)
    assert not found[0].any()
    np.testing.assert_array_equal(found[1], whole[1])


def test_nothing_was_spent_of_what_stood_in_for_a_score(model: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model answers again when it is asked for tokens: its credit is of no score that counted."""
    reward = TrlReward(model, failure=0.5)
    ids = [list(one.ids[one.prompt_tokens :]) for one in model.encoder.encode(PROMPTS, TEXTS)]

    def down(*_: Any, **__: Any) -> Any:
        raise ModelError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(model, "score", down)
        with pytest.warns(UserWarning, match="stands for them"):
            assert reward(prompts=PROMPTS, completions=TEXTS) == [0.5, 0.5]
    assert not any(own.any() for own in reward.spent(PROMPTS, TEXTS, ids, model.encoder.tokenizer))
    assert reward(prompts=PROMPTS, completions=TEXTS) != [0.5, 0.5]
    assert any(own.any() for own in reward.spent(PROMPTS, TEXTS, ids, model.encoder.tokenizer))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_twenty_steps_of_trl_with_credit_of_tokens(model: RewardModel, tiny_causal: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data = Dataset.from_list([{"prompt": f"Name thing {k}."} for k in range(16)])
    told: dict[str, Any] = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 4, "num_generations": 2, "max_steps": 20,
        "max_completion_length": 8, "report_to": [], "use_cpu": True, "bf16": False, "logging_steps": 1,
        "save_strategy": "no", "learning_rate": 1e-3,
    }  # fmt: skip

    def trainer_of(kind: Any, reward: Any) -> Any:
        policy = AutoModelForCausalLM.from_pretrained(tiny_causal)
        tokenizer = AutoTokenizer.from_pretrained(tiny_causal)
        return kind(
            policy, reward_funcs=reward, args=trl.GRPOConfig(**told), train_dataset=data, processing_class=tokenizer
        )

    kind = token_credit_trainer()
    trainer = trainer_of(kind, TrlReward(model))
    seen: list[torch.Tensor] = []
    compute = trainer.compute_loss

    def noting(given: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        seen.append(inputs["advantages"].clone())
        return compute(given, inputs, *args, **more)

    trainer.compute_loss = noting
    trainer.train()
    assert trainer.state.global_step == 20
    assert all(one.dim() == 2 for one in seen) and any(one.std(dim=1).max() > 1e-4 for one in seen)
    assert all(np.isfinite(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)
    # nothing redistributed: TRL's own advantages at every token
    sparse = trainer_of(kind, TrlReward(model, mix=0.0))
    sparse.compute_loss, compute = noting, sparse.compute_loss
    seen.clear()
    sparse.train()
    assert all(float(one.std(dim=1).max()) < 1e-5 for one in seen)
    # one score that is no number: its completion moves nothing, and the others go on
    silent = TrlReward(model)
    silent.model = silent.link.model = Silent(model)
    told["max_steps"] = 3
    holes = trainer_of(kind, silent)
    holes.compute_loss, compute = noting, holes.compute_loss
    seen.clear()
    holes.train()
    assert all(torch.isfinite(one).all() and int((one.abs().sum(dim=1) == 0).sum()) >= 1 for one in seen)
    assert all(parameter.isfinite().all() for parameter in holes.model.parameters())
    with pytest.raises(ConfigError, match="needs a TrlReward"):
        trainer_of(kind, lambda completions, **_: [0.0] * len(completions))


def test_a_reward_file_of_openrlhf(model: RewardModel, tmp_path: Path) -> None:
    """The file form, as OpenRLHF calls it: positional, templated queries, three keys."""
    queries = [model.encoder.render(prompt, text) for prompt, text in zip(PROMPTS, TEXTS, strict=True)]
    reward_func = reward_function(model)
    found = reward_func(queries, PROMPTS, ["4", None])
    assert sorted(found) == ["extra_logs", "rewards", "scores"]
    np.testing.assert_allclose(found["rewards"].numpy(), model.score(PROMPTS, TEXTS), atol=1e-5)
    assert found["rewards"].dtype == torch.float32 and ((found["scores"] > 0) & (found["scores"] < 1)).all()
    # later servers get empty lists
    assert reward_func([], [], [])["rewards"].tolist() == []
    model.save_pretrained(tmp_path / "model")
    write_reward_file(str(tmp_path / "model"), str(tmp_path / "reward.py"))
    text = (tmp_path / "reward.py").read_text("utf-8")
    assert "reward_func = reward_function(" in text and str(tmp_path / "model") in text
    place = str(tmp_path / "reward.py")
    script = f"import runpy; print(runpy.run_path({place!r})['reward_func']({queries!r}, None, None))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert said.returncode == 0 and "rewards" in said.stdout, said.stderr


@pytest.mark.parametrize("later", [False, True], ids=["actions alone", "all but the first token"])
def test_a_hook_moves_scores_to_tokens(model: RewardModel, later: bool) -> None:
    encoded = model.encoder.encode(PROMPTS, TEXTS)
    begun = max(one.prompt_tokens for one in encoded)
    width = begun + max(len(one.ids) - one.prompt_tokens for one in encoded)
    sequences, seen = torch.zeros(2, width + 2, dtype=torch.long), torch.zeros(2, width + 2)
    actions = torch.zeros(2, width + 2, dtype=torch.bool)
    for row, one in enumerate(encoded):
        first = begun - one.prompt_tokens  # prompts end in the same column, as OpenRLHF pads them
        sequences[row, first : first + len(one.ids)] = torch.tensor(list(one.ids))
        seen[row, first : first + len(one.ids)] = 1
        actions[row, begun : first + len(one.ids)] = True
    kept = actions[:, 1:] if later else actions[:, begun:]
    given = SimpleNamespace(sequences=sequences, attention_mask=seen, action_mask=kept)
    found = CreditHook(model, model.encoder.tokenizer)(given)
    assert found.shape == kept.shape and found.dtype == torch.float32 and not found[~kept].any()
    for row, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
        scores = model.prefix_scores(prompt, text)
        expected = np.diff(scores)
        expected[-1] -= scores[-1]
        np.testing.assert_allclose(found[row][kept[row]].numpy(), expected, atol=1e-5)
        assert float(found[row].sum()) == pytest.approx(-scores[0], abs=1e-4)


def test_what_an_environment_writes_counts_for_the_action_before_it(model: RewardModel) -> None:
    one = model.encoder.encode(PROMPTS[:1], TEXTS[:1])[0]
    begun, count = one.prompt_tokens, len(one.ids) - one.prompt_tokens
    actions = torch.zeros(1, len(one.ids), dtype=torch.bool)
    actions[0, begun:] = True
    actions[0, begun + 1 : begun + 3] = actions[0, -1] = False
    seen = torch.ones(1, len(one.ids))
    given = SimpleNamespace(sequences=torch.tensor([list(one.ids)]), attention_mask=seen, action_mask=actions)
    found = CreditHook(model, model.encoder.tokenizer)(given)[0]
    scores = model.prefix_scores(PROMPTS[0], TEXTS[0])
    assert count >= 6 and not found[~actions[0]].any()
    assert float(found[begun]) == pytest.approx(scores[3] - scores[0], abs=1e-4)
    assert float(found[begun + 3]) == pytest.approx(scores[4] - scores[3], abs=1e-4)
    # the last action has what ends the text too, and loses the whole score
    assert float(found[-2]) == pytest.approx(-scores[-3], abs=1e-4)
    assert float(found.sum()) == pytest.approx(-scores[0], abs=1e-4)


def test_a_hook_that_cannot_be(model: RewardModel, tiny_encoder: Path, tiny_causal: Path) -> None:
    other = create_reward_model(ModelOptions(backbone=str(tiny_encoder)))
    with pytest.raises(ModelError, match="cannot tell what each token earned"):
        CreditHook(other, other.encoder.tokenizer)
    strange = SimpleNamespace(get_vocab=lambda: {"a": 0})
    with pytest.raises(ModelError, match="other tokens"):
        CreditHook(model, strange)
    empty = SimpleNamespace(
        sequences=torch.ones(1, 3, dtype=torch.long), attention_mask=torch.ones(1, 3), action_mask=torch.ones(1, 3)
    )
    with pytest.raises(DataError, match="no prompt"):
        CreditHook(model, model.encoder.tokenizer)(empty)


class Keyword:
    """A scorer whose prefixes are known."""

    def __init__(self, model: RewardModel, values: list[float]) -> None:
        self.encoder, self.values = model.encoder, values

    def prefix_scores_encoded(self, encoded: Any, **_: Any) -> list[np.ndarray]:
        return [np.array(self.values, np.float32) for _ in encoded]

    def to(self, _: Any) -> Keyword:
        return self


def batch_of(model: RewardModel, width: int = 5) -> Any:
    """Return a batch as verl has it: its prompts end with all that the template writes before a response."""
    tokenizer = model.encoder.tokenizer
    encoded = model.encoder.encode(["Name a sea."], ["No."])[0]
    begin = encoded.prompt_tokens + (not tokenizer.decode(encoded.ids[encoded.prompt_tokens]).strip())
    ids = encoded.ids[begin:]
    prompt = torch.tensor([list(encoded.ids[:begin])])
    responses = torch.full((1, width), tokenizer.pad_token_id or 0)
    responses[0, : len(ids)] = torch.tensor(list(ids))
    mask = torch.cat([torch.ones_like(prompt), (torch.arange(width) < len(ids)).long().unsqueeze(0)], dim=1)
    raw = np.array([[{"role": "user", "content": "Name a sea."}]], dtype=object)
    return SimpleNamespace(
        batch={"prompts": prompt, "responses": responses, "attention_mask": mask}, non_tensor_batch={"raw_prompt": raw}
    ), len(ids)


def test_a_reward_manager_of_verl(model: RewardModel) -> None:
    data, count = batch_of(model, 12)
    # the reward model has a token of its own for the blank before a response, which verl's prompt ends with
    values = np.linspace(0.0, 0.83, count + 2).tolist()
    manager = RewardManager(model.encoder.tokenizer, 1, None, model=Keyword(model, values))  # type: ignore[arg-type]
    found = manager(data)
    assert found.shape == (1, 12) and found.dtype == torch.float32
    np.testing.assert_allclose(found[0, :count].numpy(), np.diff([values[0], *values[2:]]), atol=1e-6)
    assert (found[0, count:] == 0).all()
    told = manager(data, return_dict=True)
    assert torch.equal(told["reward_tensor"], found) and told["reward_extra_info"]["score"] == pytest.approx([0.83])
    sparse = RewardManager(model.encoder.tokenizer, model=model, credit="terminal")(data)
    assert (sparse != 0).nonzero().tolist() == [[0, count - 1]]
    assert sparse[0, count - 1].item() == pytest.approx(float(model.score(["Name a sea."], ["No."])[0]), abs=1e-5)


def test_what_verl_cannot_give_is_told(model: RewardModel) -> None:
    data, _ = batch_of(model, 12)
    manager = RewardManager(model.encoder.tokenizer, model=model)
    data.non_tensor_batch = {}
    with pytest.raises(DataError, match="return_raw_chat"):
        manager(data)
    with pytest.warns(UserWarning, match="redistribution is lost"):
        RewardManager(model.encoder.tokenizer, model=model, estimator="grpo")
    with pytest.raises(ConfigError, match="no such credit"):
        RewardManager(model.encoder.tokenizer, model=model, credit="mine")
    compute = score_function(model)
    found = compute("d", "The Baltic.", None, {"prompt": "Name a sea."})
    expected = pytest.approx(float(model.score(["Name a sea."], ["The Baltic."])[0]), abs=1e-5)
    assert found == {"score": expected, "truncated": 0.0, "failed": 0.0}
    with pytest.raises(DataError, match="the prompt is not there"):
        compute("d", "The Baltic.", None, {})


def test_a_bidirectional_model_has_no_credit(tiny_encoder: Path, learned: Any, model: RewardModel) -> None:
    other = learned(create_reward_model(ModelOptions(backbone=str(tiny_encoder))))
    data, _ = batch_of(model, 12)
    with pytest.raises(ModelError, match="no scores of prefixes"):
        RewardManager(model.encoder.tokenizer, model=other)(data)
