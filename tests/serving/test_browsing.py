"""Files of judgements in the page, and reports of runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from assay.errors import DataError
from assay.feedback import pairs
from assay.scorers import RewardModel
from assay.scorers.core import ScoringCore
from assay.serving import browsing, reports
from assay.serving.browsing import Browser, read_sources
from tests.serving.conftest import serving

READING = {"format": "auto", "mapping": None, "split": None, "tokenizer": None, "group": None, "ties": "keep"}


def whole(client: Any, number: int = 0, **query: Any) -> dict[str, Any]:
    """Ask until all is scored."""
    for _ in range(200):
        found = client.get(f"/data/{number}", params={"count": 100} | query).json()
        if found["scored"] == found["pairs_in_all"] or found["error"]:
            return dict(found)
        time.sleep(0.05)
    raise AssertionError("not scored in time")


@pytest.fixture
def client(causal: RewardModel, encoder: RewardModel, pairs_file: Path) -> Any:
    sources, _ = read_sources([str(pairs_file)], 20, READING)
    with serving(
        causal, more=lambda service: [browsing.router(Browser(service, sources, ScoringCore(encoder)))]
    ) as found:
        found.sources = sources
        yield found


def test_orders(client: Any, causal: RewardModel) -> None:
    (described,) = client.get("/data").json()
    assert described["name"] == "pairs.jsonl" and described["left_out"] == 10 and described["against"]
    found = whole(client, by="uncertain")
    near = [abs(pair["model"]["probability"] - 0.5) for pair in found["pairs"]]
    assert near == sorted(near) and found["found"] == found["pairs_in_all"] == len(near)
    pair = found["pairs"][3]
    prompt = [{"role": turn["role"], "content": turn["content"]} for turn in pair["prompt"]]
    expected = causal.probability([prompt], [pair["a"]], [pair["b"]])[0]
    assert pair["model"]["probability"] == pytest.approx(expected, abs=1e-6)
    wrong = whole(client, by="mistakes")["pairs"]
    assert wrong and all((one["model"]["probability"] - 0.5) * (one["target"] - 0.5) < 0 for one in wrong)
    sure = [abs(one["model"]["probability"] - 0.5) for one in wrong]
    assert sure == sorted(sure, reverse=True)
    apart = [
        abs(one["model"]["probability"] - one["against"]["probability"])
        for one in whole(client, by="disagreement")["pairs"]
    ]
    assert len(apart) == len(near) and apart == sorted(apart, reverse=True)
    in_file = whole(client)["pairs"]
    assert [one["index"] for one in in_file] == list(range(len(near)))


def test_search_and_pages(client: Any) -> None:
    found = whole(client, search="SEA")
    assert 0 < found["found"] < found["pairs_in_all"]
    assert all("sea" in json.dumps(one).lower() for one in found["pairs"])
    assert whole(client, search="nowhere to be found")["pairs"] == []
    first, second = (whole(client, start=start, count=5)["pairs"] for start in (0, 5))
    assert [one["index"] for one in first + second] == list(range(10))
    assert client.get("/data/0", params={"count": 1000}).status_code == 422
    assert client.get("/data/0", params={"by": "magic"}).status_code == 422
    assert client.get("/data/7").status_code == 404


def test_what_holds_no_judgement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "responses": ["b", "c"]}\n', "utf-8")
    with pytest.raises(DataError, match="no judged pair"):
        read_sources([str(path)], 10, READING)


def test_scores_wait_for_room(causal: RewardModel, pairs_file: Path) -> None:
    """People who look do not push out programs that score."""
    sources, _ = read_sources([str(pairs_file)], 3, READING)
    total = len(pairs(sources[0].data))
    with serving(causal, waiting=2 * total, more=lambda s: [browsing.router(Browser(s, sources))]) as client:
        client.service.batcher.reserve(1)
        client.get("/data/0")
        time.sleep(0.2)
        assert len(sources[0].said) == 0
        client.service.batcher.release(1)
        assert whole(client)["scored"] == total and whole(client)["against"] is False


def test_reports_of_runs(causal: RewardModel, tmp_path: Path) -> None:
    for name, title in (("a", "Run <A> &amp; more"), ("deep/er/b", "B"), ("c", None)):
        (tmp_path / name).mkdir(parents=True)
        page = f"<html><title>{title}</title><body>{name}</body></html>" if title else "<html></html>"
        (tmp_path / name / "report.html").write_text(page, "utf-8")
    metrics = {
        "evaluation": {"accuracy": {"value": 0.75}, "ece": {"value": 0.2}, "calibrated": {"ece": {"value": 0.1}}}
    }
    (tmp_path / "a" / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    (tmp_path / "c" / "metrics.json").write_text("{", "utf-8")
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "report.html").write_text("secret", "utf-8")
    (tmp_path / "link").symlink_to(outside)
    with serving(causal, more=[reports.router(str(tmp_path))]) as client:
        found = {one["name"]: one for one in client.get("/runs").json()}
        assert sorted(found) == ["a", "c", "deep/er/b"]
        assert found["a"]["title"] == "Run <A> & more" and found["c"]["title"] == "c"
        assert found["a"]["figures"] == {"accuracy": 0.75, "ece": 0.1} and found["c"]["figures"] == {}
        reply = client.get("/runs/deep/er/b/report.html")
        assert reply.status_code == 200 and "deep/er/b" in reply.text
        assert "sandbox" in reply.headers["content-security-policy"]
        for path in ("/runs/link/report.html", "/runs/..%2Foutside/report.html", "/runs/%2e%2e/outside/report.html",
                     "/runs/x/report.html", "/runs//etc/report.html"):  # fmt: skip
            reply = client.get(path)
            assert reply.status_code == 404 and "secret" not in reply.text
