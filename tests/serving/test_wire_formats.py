"""Every wire format, request and reply as the peers write them; ids and times are masked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from assay.scorers import RewardModel
from tests.serving.conftest import PROMPTS, TEXTS, serving


@pytest.fixture(scope="module")
def client(causal: RewardModel) -> Iterator[Any]:
    with serving(causal) as found:
        yield found


@pytest.fixture(scope="module")
def texts(causal: RewardModel) -> list[str]:
    """Return the conversations as a peer sends them: templated, special tokens and all."""
    return [causal.encoder.render(prompt, text) for prompt, text in zip(PROMPTS, TEXTS, strict=True)]


@pytest.fixture(scope="module")
def scores(causal: RewardModel) -> list[float]:
    return causal.score(PROMPTS, TEXTS).tolist()


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-5)


# OpenRLHF


def test_openrlhf(client: Any, texts: list[str], scores: list[float], causal: RewardModel) -> None:
    reply = client.post("/get_reward", json={"query": texts, "prompts": PROMPTS, "labels": ["4"] * 4})
    found = reply.json()
    assert reply.status_code == 200 and list(found) == ["rewards", "scores", "extra_logs"]
    close(found["rewards"], scores)
    close(found["rewards"], causal.score_text(texts))
    close(found["scores"], expit(scores))
    assert found["extra_logs"]["assay_truncated"] == [0.0] * 4
    assert all(len(values) == 4 for values in found["extra_logs"].values())


@pytest.mark.parametrize("absent", [{}, {"prompts": None, "labels": None}, {"prompts": ["a"]}, {"labels": [None]}])
def test_openrlhf_sends_one_query_with_or_without_the_rest(
    client: Any, texts: list[str], scores: list[float], absent: dict[str, Any]
) -> None:
    for query in ([texts[1]], texts[1]):
        found = client.post("/get_reward", json={"query": query, **absent}).json()
        close(found["rewards"], scores[1:2])


def test_openrlhf_sends_nothing_to_the_last_of_several_servers(client: Any) -> None:
    reply = client.post("/get_reward", json={"query": [], "prompts": [], "labels": []})
    assert reply.status_code == 200 and reply.json() == {"rewards": [], "scores": [], "extra_logs": {}}


# LLaMA-Factory


def test_llama_factory(client: Any, texts: list[str], scores: list[float]) -> None:
    reply = client.post("/v1/score/evaluation", json={"model": "model", "messages": texts})
    found = reply.json()
    assert re.fullmatch(r"scoreval-[0-9a-f]{32}", found.pop("id"))
    close(found.pop("scores"), scores)
    assert found == {"object": "score.evaluation", "model": "model"}


def test_llama_factory_limits_length_and_gives_any_name_back(
    client: Any, texts: list[str], causal: RewardModel
) -> None:
    body = {"model": "whatever", "messages": [texts[1]], "max_length": 2048}
    found = client.post("/v1/score/evaluation", json=body).json()
    assert found["model"] == "whatever"
    close(found["scores"], causal.score_text([texts[1]]))
    short = client.post("/v1/score/evaluation", json=body | {"max_length": 12}).json()
    expected = causal.score_encoded([causal.encoder.encode_text([texts[1]], 12)[0].ids])
    close(short["scores"], expected)
    assert abs(short["scores"][0] - found["scores"][0]) > 1e-3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "model", "messages": []}, 400),
        ({"model": "model"}, 422),
        ({"model": "model", "messages": "a"}, 422),
        ({"model": "model", "messages": ["a"], "max_length": 2}, 400),
    ],
)
def test_llama_factory_never_sees_scores_in_an_error(client: Any, body: dict[str, Any], status: int) -> None:
    reply = client.post("/v1/score/evaluation", json=body)
    assert reply.status_code == status
    assert list(reply.json()) == ["error"] and "scores" not in reply.json()["error"]


# vLLM


def test_vllm_classify(client: Any, texts: list[str], scores: list[float], causal: RewardModel) -> None:
    body = {"model": "assay-rm", "input": texts[:2], "use_activation": False, "add_special_tokens": False}
    found = client.post("/classify", json=body).json()
    assert re.fullmatch(r"classify-[0-9a-f]+", found.pop("id")) and found.pop("created") > 1.7e9
    close([one.pop("probs") for one in found["data"]], [[value] for value in scores[:2]])
    tokens = sum(len(one.ids) for one in causal.encoder.encode_text(texts[:2]))
    assert found == {
        "object": "list",
        "model": "assay-rm",
        "data": [{"index": k, "label": "LABEL_0", "num_classes": 1} for k in range(2)],
        "usage": {
            "prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None
        },
    }  # fmt: skip


def test_vllm_takes_texts_ids_and_messages(
    client: Any, texts: list[str], scores: list[float], causal: RewardModel
) -> None:
    raw = {"use_activation": False}
    ids = [causal.encoder.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts[:2]]
    chat = [{"role": "user", "content": PROMPTS[0]}, {"role": "assistant", "content": TEXTS[0]}]
    for given, expected in (
        ({"input": texts[0]}, scores[:1]),
        ({"input": ids[0]}, scores[:1]),
        ({"input": ids}, scores[:2]),
        ({"messages": chat}, scores[:1]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPTS[0]}]}, chat[1]]}, scores[:1]),
        ({"input": texts[0], "activation": None, "softmax": True}, scores[:1]),
        ({"input": texts[0], "add_special_tokens": True}, scores[:1]),
        ({"input": texts[0], "truncate_prompt_tokens": -1}, scores[:1]),
        ({"input": []}, []),
    ):
        found = client.post("/classify", json=given | raw).json()
        close([one["probs"][-1] for one in found["data"]], expected)
        assert found["model"] == "rm", "its own name, where none is given"


@pytest.mark.parametrize("name", ["use_activation", "softmax", "activation"])
def test_vllm_activates_unless_told_otherwise_by_any_of_three_names(
    client: Any, texts: list[str], scores: list[float], name: str
) -> None:
    on, off = float(expit(scores[0])), scores[0]
    for given, expected in (({}, on), ({name: None}, on), ({name: True}, on), ({name: False}, off)):
        found = client.post("/classify", json={"input": texts[0], **given}).json()
        close(found["data"][-1]["probs"][-1], expected)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": "a", "messages": []},
        {"messages": [{"role": "user", "content": "a"}]},
        {"messages": []},
        {"input": [10**7]},
        {"input": [[1], []]},
        {"messages": [{"role": "assistant", "content": "a"}], "truncate_prompt_tokens": 9},
    ],
)
def test_vllm_refuses_what_cannot_be_scored(client: Any, body: dict[str, Any]) -> None:
    reply = client.post("/classify", json=body)
    assert reply.status_code == 400 and reply.json()["error"]["message"]


def test_embeddings_of_sglang(client: Any, texts: list[str], scores: list[float]) -> None:
    found = client.post("/v1/embeddings", json={"model": "m", "input": texts[:2]}).json()
    close([one.pop("embedding") for one in found["data"]], [[value] for value in scores[:2]])
    assert found.pop("usage")["total_tokens"] > 0
    assert found == {
        "object": "list", "model": "m", "data": [{"object": "embedding", "index": k} for k in range(2)]
    }  # fmt: skip


# ours


def test_scores(client: Any, scores: list[float], texts: list[str], causal: RewardModel) -> None:
    given = [{"prompt": prompt, "response": text} for prompt, text in zip(PROMPTS, TEXTS, strict=True)]
    chat = {
        "prompt": [{"role": "user", "content": PROMPTS[0]}],
        "response": [{"role": "assistant", "content": TEXTS[0]}],
    }
    ids = [int(token) for token in causal.encoder.encode_text([texts[1]])[0].ids]
    body = {"conversations": [*given, chat, {"text": texts[0]}, {"ids": ids}]}
    found = client.post("/v1/score", json=body).json()
    close([score["value"] for score in found["scores"]], [*scores, scores[0], scores[0], scores[1]])
    assert list(found) == ["model", "fingerprint", "calibrated", "scores"] and found["calibrated"] is True
    assert sorted(found["scores"][0]) == [
        "cut_prompt_tokens", "cut_response_tokens", "tokens_read", "truncated", "value"
    ]  # fmt: skip
    assert client.post("/v1/score", json={"conversations": []}).json()["scores"] == []


def test_scores_of_tokens(client: Any, causal: RewardModel) -> None:
    body = {"conversations": [{"prompt": PROMPTS[0], "response": TEXTS[0]}], "tokens": True, "read": True}
    (score,) = client.post("/v1/score", json=body).json()["scores"]
    close(score["prefix_scores"], causal.prefix_scores(PROMPTS[0], TEXTS[0]))
    assert len(score["tokens"]) + 1 == len(score["prefix_scores"]) and TEXTS[0] in score["read"]


def test_pairs_and_lists(client: Any, causal: RewardModel, scores: list[float]) -> None:
    body = {"pairs": [{"prompt": PROMPTS[0], "a": TEXTS[0], "b": TEXTS[3]}]}
    (pair,) = client.post("/v1/pairs", json=body).json()["pairs"]
    close(pair["probability_a"], causal.probability(PROMPTS[:1], TEXTS[:1], TEXTS[3:]))
    close([pair["margin"], pair["a"]["value"]], [scores[0] - scores[3], scores[0]])
    given = [{"prompt": PROMPTS[0], "responses": [*TEXTS, TEXTS[0]]}, {"prompt": "a", "responses": []}]
    found, empty = client.post("/v1/lists", json={"lists": given}).json()["lists"]
    values = [score["value"] for score in found["scores"]]
    close(values, causal.score([PROMPTS[0]] * 5, [*TEXTS, TEXTS[0]]))
    assert values == sorted(values, reverse=True) or found["order"] != list(range(5))
    assert [values[k] for k in found["order"]] == sorted(values, reverse=True)
    probabilities = np.array(found["probabilities"])
    close(probabilities + probabilities.T, np.ones((5, 5)))
    assert probabilities[0, 4] == 0.5 and "stds" not in found
    assert empty == {"scores": [], "order": [], "probabilities": [], "margins": []}


def test_a_long_list_is_refused_and_a_long_one_with_tokens_comes_in_pieces(client: Any) -> None:
    many = [f"The Baltic {k}." for k in range(300)]
    reply = client.post("/v1/lists", json={"lists": [{"prompt": "a", "responses": many}]})
    assert reply.status_code == 413 and "256 responses" in reply.json()["error"]["expected"]
    (found,) = client.post(
        "/v1/lists", json={"lists": [{"prompt": "a", "responses": many[:40]}], "tokens": True}
    ).json()["lists"]
    ends = [score["prefix_scores"][-1] for score in found["scores"]]
    close(ends, [score["value"] for score in found["scores"]])


def test_how_sure(ensemble: RewardModel) -> None:
    with serving(ensemble) as client:
        body = {"lists": [{"prompt": PROMPTS[0], "responses": TEXTS}]}
        (found,) = client.post("/v1/lists", json=body).json()["lists"]
        values, deviations = ensemble.uncertainty([PROMPTS[0]] * 4, TEXTS)
        close([score["value"] for score in found["scores"]], values)
        close([score["std"] for score in found["scores"]], deviations)
        assert np.array(found["stds"]).shape == (4, 4)
        told = client.get("/model").json()
        assert told["uncertain"] and told["members"] == 4 and not told["calibrated"]


def test_many_at_once_have_the_scores_of_one(causal: RewardModel) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with serving(causal, wait_ms=20.0) as client:

        def ask(k: int) -> float:
            prompt, text = PROMPTS[k % 4], f"{TEXTS[k % 3]} {k}"
            body = {"conversations": [{"prompt": prompt, "response": text}]}
            return float(client.post("/v1/score", json=body).json()["scores"][0]["value"])

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(ask, range(48)))
        close(found, causal.score([PROMPTS[k % 4] for k in range(48)], [f"{TEXTS[k % 3]} {k}" for k in range(48)]))
        counted = client.get("/metrics").text
        assert "assay_texts_total 48.0" in counted
        batches = float(re.search(r"assay_batch_texts_count (\S+)", counted)[1])  # type: ignore[index]
        assert batches < 48, "requests were scored together"


def test_about(client: Any, causal: RewardModel) -> None:
    assert client.get("/health").json() == {"status": "ok", "waiting": 0}
    told = client.get("/model").json()
    assert told["name"] == "rm" and told["head"] == "linear" and told["token_scores"] and told["page"] == ["score"]
    assert told["calibration"] == {"kind": "temperature", "temperature": 2.0} and "Reward model" in told["card"]
    described = client.get("/openapi.json").json()["paths"]
    assert {"/v1/score", "/v1/pairs", "/v1/lists", "/get_reward", "/classify"} <= set(described)
    assert 'assay_requests_total{route="/health",status="200"}' in client.get("/metrics").text


def test_a_policy_is_served_where_the_prompt_is_known(tiny_chat: Any) -> None:
    from assay.scorers.policy_loading import PolicyOptions, create_policy

    policy = create_policy(PolicyOptions(str(tiny_chat))).eval()
    with serving(policy) as client:
        body = {"conversations": [{"prompt": PROMPTS[0], "response": TEXTS[0]}]}
        (score,) = client.post("/v1/score", json=body).json()["scores"]
        close(score["value"], policy.score(PROMPTS[:1], TEXTS[:1])[0])
        reply = client.post("/get_reward", json={"query": ["a"]})
        assert reply.status_code == 400 and "where the prompt ends" in reply.json()["error"]["message"]
        assert client.get("/model").json()["kind"] == "policy"
