"""Clients of a server, and failure values: time limits, retries, replies that are looked at."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.errors import ConfigError, ModelError
from assay.scorers import RewardModel
from assay.scorers.served import ServedModel
from assay.serving.client import known_failure
from assay.serving.openrlhf_reward import reward_function, write_reward_file
from assay.serving.trl_rewards import TrlReward
from assay.serving.verl_manager import RewardManager, score_function
from tests.serving.conftest import PROMPTS, TEXTS, listening

NOWHERE = "http://127.0.0.1:9"
SOON: Any = {"tries": 2, "wait": 0.01, "timeout": 2.0}


@pytest.fixture(scope="module")
def address(causal: RewardModel) -> Iterator[str]:
    with listening(causal) as place:
        yield place


def test_a_served_model_gives_what_the_model_gives(address: str, causal: RewardModel) -> None:
    served = ServedModel(address, at_once=3)
    expected = causal.score(PROMPTS, TEXTS)
    np.testing.assert_allclose(served.score(PROMPTS, TEXTS), expected, atol=1e-5)
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    np.testing.assert_allclose(served.score(chats, TEXTS), expected, atol=1e-5)
    texts = [causal.encoder.render(prompt, text) for prompt, text in zip(PROMPTS, TEXTS, strict=True)]
    np.testing.assert_allclose(served.score_text(texts), expected, atol=1e-5)
    swapped = list(reversed(TEXTS))
    np.testing.assert_allclose(
        served.probability(PROMPTS, TEXTS, swapped), causal.probability(PROMPTS, TEXTS, swapped), atol=1e-6
    )
    lists = served.ranked(["Name a sea.", "a"], [TEXTS, TEXTS[:2]])
    np.testing.assert_allclose(lists[0][0], causal.score(["Name a sea."] * 4, TEXTS), atol=1e-5)
    assert lists[0][1].shape == (4, 4) and lists[1][1].shape == (2, 2) and lists[0][2] == 0
    assert served.name == "rm" and served.calibrated and served.score([], []).shape == (0,)
    with pytest.warns(UserWarning, match="1 of 1 texts were longer"):
        served.score(["a"], ["certainly " * 200])
    with pytest.raises(ModelError, match="HTTP 400"):
        served.score([[{"role": "nobody?", "content": "a"}, {"role": "b", "content": None}]], [[]])


def test_the_functions_of_all_peers_ask_a_server(address: str, causal: RewardModel) -> None:
    expected = causal.score(PROMPTS, TEXTS)
    reward = TrlReward(address)
    assert reward(prompts=PROMPTS, completions=TEXTS, completion_ids=[[1]] * 4) == pytest.approx(
        expected.tolist(), abs=1e-5
    )
    texts = [causal.encoder.render(prompt, text) for prompt, text in zip(PROMPTS, TEXTS, strict=True)]
    found = reward_function(address)(texts, PROMPTS, None)
    torch.testing.assert_close(found["rewards"], torch.from_numpy(expected), atol=1e-5, rtol=0)
    assert reward_function(address)([], None, None)["rewards"].shape == (0,)
    score = score_function(address)
    for number, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
        told = score("d", text, None, {"prompt": prompt})
        assert told == {"score": pytest.approx(float(expected[number]), abs=1e-5), "truncated": 0.0, "failed": 0.0}
    here = score_function(causal)("d", "certainly " * 200, None, {"prompt": "a"})
    assert here["truncated"] == 1.0 and list(here) == list(told)


def test_credit_of_tokens_over_the_wire_is_that_of_the_model(address: str, causal: RewardModel) -> None:
    """Also where the policy's tokens are other ones than the model's."""
    from tests.conftest import encoder_tokenizer

    own, other = causal.encoder.tokenizer, encoder_tokenizer()
    for tokenizer in (own, other):
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        here = TrlReward(causal).spent(PROMPTS, TEXTS, ids, tokenizer)
        there = TrlReward(address).spent(PROMPTS, TEXTS, ids, tokenizer)
        for one, two in zip(here, there, strict=True):
            np.testing.assert_allclose(two, one, atol=1e-5)
    link: Any = RewardManager(own, model=address).link
    assert link.model.url == address


def test_a_server_that_does_not_answer(causal: RewardModel) -> None:
    for make in (TrlReward, reward_function, score_function):
        with pytest.raises(ModelError, match="does not answer") as error:
            make(NOWHERE, **SOON)
        assert "tried 2 times" in str(error.value)
    with pytest.raises(ConfigError, match="options are of a server"):
        TrlReward(causal, timeout=3.0)


@pytest.mark.parametrize("failure", [0.0, -1.5, None])
def test_failure_has_a_value(causal: RewardModel, failure: float | None) -> None:
    with listening(causal) as place:
        reward = TrlReward(place, failure=failure, **SOON)
        number = 0.0 if failure is None else failure
        function, score = reward_function(place, failure=number, **SOON), score_function(place, failure=number, **SOON)
    with pytest.warns(UserWarning, match="scores are missing"):
        assert reward(prompts=PROMPTS, completions=TEXTS) == [failure] * 4
    with pytest.warns(UserWarning, match="4 scores are missing"):
        assert function(TEXTS)["rewards"].tolist() == [number] * 4
    with pytest.warns(UserWarning, match="1 scores are missing"):
        assert score("d", "a", None, {"prompt": "b"}) == {"score": number, "truncated": 0.0, "failed": 1.0}


def test_failure_is_an_error_unless_said_otherwise(causal: RewardModel) -> None:
    with listening(causal) as place:
        reward = TrlReward(place, **SOON)
    with pytest.raises(ModelError, match="does not answer"):
        reward(prompts=PROMPTS, completions=TEXTS)
    for wrong in ("none", True, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="cannot stand for a score"):
            known_failure(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot stand for a score"):
        reward_function(causal, failure=None)


class Replies:
    """A server that gives what it is told to, one reply after another."""

    def __init__(self, *replies: tuple[int, Any]) -> None:
        given, self.asked = list(replies), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked += 1
                status, body = given.pop(0) if given else (500, {})
                packed = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(packed)))
                self.end_headers()
                self.wfile.write(packed)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


HEAD = {"model": "m", "fingerprint": "f", "calibrated": False}
EMPTY = (200, {**HEAD, "scores": []})


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({**HEAD, "scores": []}, "another number of scores"),
        ({**HEAD, "scores": [{"value": None}]}, "does not answer"),
        ({**HEAD, "scores": [{"value": "1e999"}]}, "does not answer"),
        ({**HEAD, "fingerprint": "g", "scores": [{"value": 1.0}]}, "another model than before"),
        (b"<html>", "does not answer"),
        (b'{"model": "m", "fingerprint": "f", "calibrated": false, "scores": [{"value": NaN}]}', "does not answer"),
    ],
)
def test_replies_are_looked_at(reply: Any, told: str) -> None:
    server = Replies(EMPTY, (200, reply), (200, reply))
    served = ServedModel(server.url, **SOON)
    with pytest.raises(ModelError, match=told):
        served.score(["a"], ["b"])


def test_tries_are_bounded_and_worth_it() -> None:
    good = (200, {**HEAD, "scores": [{"value": 2.0}]})
    server = Replies(EMPTY, (503, {}), good)
    served = ServedModel(server.url, **SOON)
    assert served.score(["a"], ["b"]).tolist() == [2.0] and server.asked == 3
    server = Replies(EMPTY, (400, {"error": {"message": "no"}}), good)
    served = ServedModel(server.url, **SOON)
    with pytest.raises(ModelError, match="HTTP 400"):
        served.score(["a"], ["b"])
    assert server.asked == 2, "what was refused is not sent again"


def test_the_manager_of_verl_has_a_value_for_failure(causal: RewardModel) -> None:
    from types import SimpleNamespace

    ids = torch.tensor([causal.encoder.tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]])
    prompts = torch.ones(1, 3, dtype=torch.int64)
    data = SimpleNamespace(
        batch={"prompts": prompts, "responses": ids, "attention_mask": torch.ones(1, 3 + ids.shape[1])},
        non_tensor_batch={"raw_prompt": [[{"role": "user", "content": PROMPTS[0]}]]},
    )
    with listening(causal) as place:
        manager = RewardManager(causal.encoder.tokenizer, model=place, failure=-2.0, timeout=2.0, tries=1)
        whole = float(manager(data).sum())
        prefixes = causal.prefix_scores(PROMPTS[0], TEXTS[0])
        assert whole == pytest.approx(float(prefixes[-1] - prefixes[0]), abs=1e-4)
    with pytest.warns(UserWarning, match="1 scores are missing"):
        found = manager(data, return_dict=True)
    assert found["reward_tensor"][0].tolist() == [0.0] * (ids.shape[1] - 1) + [-2.0]
    assert found["reward_extra_info"] == {"score": [-2.0]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_trl_asks_a_server(address: str, tiny_causal: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    told: dict[str, Any] = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 4, "num_generations": 2, "max_steps": 3,
        "max_completion_length": 8, "report_to": [], "use_cpu": True, "bf16": False, "logging_steps": 1,
        "save_strategy": "no",
    }  # fmt: skip
    trainer = trl.GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_causal),
        reward_funcs=TrlReward(address),
        args=trl.GRPOConfig(**told),
        train_dataset=Dataset.from_list([{"prompt": f"Name thing {k}."} for k in range(16)]),
        processing_class=AutoTokenizer.from_pretrained(tiny_causal),
    )
    trainer.train()
    rewards = [row["rewards/assay/mean"] for row in trainer.state.log_history if "rewards/assay/mean" in row]
    assert len(rewards) == 3 and np.isfinite(rewards).all()


def test_a_key_is_sent(causal: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(causal, key="s3cret") as place:
        with pytest.raises(ModelError, match="ASSAY_SERVE_KEY"):
            ServedModel(place, **SOON)
        monkeypatch.setenv("ASSAY_SERVE_KEY", "s3cret")
        assert len(ServedModel(place).score(PROMPTS, TEXTS)) == 4
        monkeypatch.delenv("ASSAY_SERVE_KEY")
        named = ServedModel(place.replace("http://", "http://assay:s3cret@"))
        assert len(named.score(PROMPTS, TEXTS)) == 4 and "s3cret" not in named.url


def test_the_file_of_openrlhf_may_name_a_server(address: str, tmp_path: Path) -> None:
    import importlib.util

    write_reward_file(address, str(tmp_path / "reward.py"))
    spec = importlib.util.spec_from_file_location("reward", tmp_path / "reward.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len(module.reward_func(["a", "b"], None, None)["rewards"]) == 2
