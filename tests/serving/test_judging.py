"""Judging: what is acknowledged is kept once, undone when asked, shown in order, exported as every verb reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from assay.errors import ConfigError, DataError, ModelError
from assay.feedback import pairs, read_with_report
from assay.feedback.records import as_messages
from assay.scorers import RewardModel
from assay.serving.judging.desk import HELD, Desk, agreed
from assay.serving.judging.pairs import Pair, pairs_of_lines, pairs_to_judge
from assay.serving.judging.routes import router
from assay.serving.judging.store import JUDGEMENTS, PAIRS, Judgement, JudgementStore
from assay.serving.problems import BadRequest, Conflict, NotThere
from assay.serving.serve_settings import JudgingSettings, ServeSettings
from tests.serving.conftest import serving


def some(count: int) -> list[Pair]:
    return [Pair(f"p{k}", as_messages(f"Name sea {k}."), f"One {k}.", f"Other {k}.") for k in range(count)]  # type: ignore[arg-type]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[JudgementStore]:
    """Return a store of four pairs: in a file, and in the database that ASSAY_TEST_POSTGRESQL names."""
    place = str(tmp_path / "j.db")
    if request.param == "postgresql":
        place = os.environ.get("ASSAY_TEST_POSTGRESQL", "")
        if not place:
            pytest.skip("NO POSTGRESQL: ASSAY_TEST_POSTGRESQL=postgresql+psycopg://… to keep judgements in it")
    found = JudgementStore(place)
    with found._engine.begin() as connection:
        connection.execute(JUDGEMENTS.delete())
        connection.execute(PAIRS.delete())
    found.bring(some(4))
    yield found
    found.close()


def test_a_judgement_counts_once_however_often_it_is_sent(store: JudgementStore) -> None:
    one = Judgement("t1", "p0", "ann", 3, turned=True, seconds=2.5)
    assert store.record(one) is True and store.record(one) is False
    assert store.standing() == [("p0", "ann", 3)]
    for wrong in (Judgement("t2", "p0", "ann", 1), Judgement("t1", "p1", "ann", 3), Judgement("t1", "p0", "bob", 3)):
        with pytest.raises(Conflict):
            store.record(wrong)
    with pytest.raises(NotThere):
        store.record(Judgement("t3", "nowhere", "ann", 1))
    assert len(store.standing()) == 1


def test_undo_withdraws_and_keeps(store: JudgementStore) -> None:
    store.record(Judgement("t1", "p0", "ann", 3))
    assert store.undo("t1", "ann") is True and store.undo("t1", "ann") is False
    assert store.standing() == [] and store.last_of("ann") is None
    assert store.record(Judgement("t1", "p0", "ann", 3)) is False, "sent again after it was withdrawn"
    assert store.standing() == []
    assert store.record(Judgement("t2", "p0", "ann", -2)) is True
    for token, name in (("t2", "bob"), ("t9", "ann")):
        with pytest.raises(NotThere):
            store.undo(token, name)
    with store._engine.connect() as connection:
        rows = connection.execute(select(JUDGEMENTS.c.token, JUDGEMENTS.c.undone_at.is_(None)))
        assert sorted((row[0], bool(row[1])) for row in rows) == [("t1", False), ("t2", True)]


def test_what_is_next(store: JudgementStore) -> None:
    desk = Desk(store, votes=1)
    assert [desk.next(name)["pair"]["id"] for name in ("ann", "bob", "ann")] == ["p0", "p1", "p0"]
    desk.judge("t1", "p0", "ann", 3)
    assert desk.next("ann")["pair"]["id"] == "p2" and desk.next("ann")["last"] == "t1"
    desk.judge("t2", "p1", "bob", None)  # passed over: another one may judge it
    assert desk.next("cem")["pair"]["id"] == "p1" and desk.next("bob")["pair"]["id"] == "p3"
    desk.undo("t1", "ann")
    assert desk.next("ann")["pair"]["id"] == "p0"
    for k, pair in enumerate(("p0", "p1", "p2", "p3")):
        desk.judge(f"c{k}", pair, "cem", 0)
    assert desk.next("ann") == {"pair": None, "last": None, "reason": "nothing is left for you"}


def test_others_are_told_that_all_is_taken(store: JudgementStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import assay.serving.judging.desk as module

    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    desk = Desk(store)
    for name in ("ann", "bob", "cem", "dan"):
        desk.next(name)
    assert "others are judging" in desk.next("eva")["reason"]
    now += HELD + 1
    assert desk.next("eva")["pair"]["id"] == "p0", "nobody holds a pair for ever"


def test_shared_pairs_are_judged_by_all(tmp_path: Path) -> None:
    store = JudgementStore(str(tmp_path / "j.db"))
    store.bring(some(10), shared=0.2)
    assert store.shared() == ["p0", "p5"]
    desk = Desk(store)
    assert desk.next("ann")["pair"]["id"] == desk.next("bob")["pair"]["id"] == "p0"
    desk.judge("t1", "p0", "ann", 3)
    assert desk.next("bob")["pair"]["id"] == "p0" and desk.next("ann")["pair"]["id"] == "p1"


def test_new_pairs_join_those_that_are_there(store: JudgementStore) -> None:
    store.record(Judgement("t1", "p2", "ann", 1))
    assert store.bring(some(6)) == 6 and store.bring(some(3)) == 6
    seen: list[str] = []
    while (pair := store.next_pair("ann", 1, seen)) is not None:
        seen.append(pair.id)
    assert seen == ["p0", "p1", "p3", "p4", "p5"]
    assert store.standing() == [("p2", "ann", 1)]


def test_a_strength_is_that_of_what_was_shown(store: JudgementStore) -> None:
    desk = Desk(store, votes=9)
    turned = {name: Desk.turned("p0", name) for name in map(str, range(40))}
    assert 8 < sum(turned.values()) < 32, "half of them see the second response first"
    for number, (name, is_turned) in enumerate(turned.items()):
        desk._held.clear()
        shown = desk.next(name)["pair"]
        assert shown["id"] == "p0" or number >= 9
        if shown["id"] == "p0":
            assert shown["turned"] is is_turned and shown["first"] == ("Other 0." if is_turned else "One 0.")
            best_is_one = 2 if shown["first"] == "One 0." else -2
            desk.judge(f"t{name}", "p0", name, best_is_one, turned=is_turned)
    assert {strength for pair, _, strength in store.standing() if pair == "p0"} == {2}


@pytest.mark.parametrize(
    ("token", "annotator", "strength"), [("t", "ann", 4), ("t", "ann", -4), ("", "ann", 1), ("t" * 65, "ann", 1),
                                         ("t", " ", 1), ("t", "a" * 101, 1)]
)  # fmt: skip
def test_what_is_no_judgement(store: JudgementStore, token: str, annotator: str, strength: int) -> None:
    with pytest.raises(BadRequest):
        Desk(store).judge(token, "p0", annotator, strength)


def test_the_export_is_read_by_every_verb(store: JudgementStore, tmp_path: Path) -> None:
    given = [("ann", "p0", 3), ("bob", "p0", -1), ("ann", "p1", 0), ("bob", "p2", None), ("cem", "p0", 2)]
    for number, (name, pair, strength) in enumerate(given):
        store.record(Judgement(f"t{number}", pair, name, strength))
    store.undo("t4", "cem")
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in store.export()), "utf-8")
    data, report = read_with_report(path)
    assert report.records == 2 and not report.dropped
    view = pairs(data)
    found = [(view.texts(k)[1], view.p[k], view.annotator[k], view.confidence[k]) for k in range(len(view))]
    assert found == [
        ("One 0.", 1.0, "ann", 3.0), ("Other 0.", 1.0, "bob", 1.0), ("One 1.", 0.5, "ann", 0.0)
    ]  # fmt: skip
    meta = json.loads(data[0]["meta"])["row"]
    assert meta["pair"] == "p0" and [own["annotator"] for own in meta["judgements"]] == ["ann", "bob"]
    assert data[0]["prompt"][0]["content"] == "Name sea 0."


def test_how_far_annotators_agree(store: JudgementStore) -> None:
    desk = Desk(store, votes=3)
    assert desk.status()["agreement"]["agreeing"] is None
    says = {"ann": [3, 3, -1, 2], "bob": [1, 2, -3, 1], "cem": [-1, 2, -3, 0]}
    for name, strengths in says.items():
        for k, strength in enumerate(strengths):
            store.record(Judgement(f"{name}{k}", f"p{k}", name, strength))
    told = desk.status()
    assert (told["pairs"], told["judged"], told["remaining"], told["judgements"]) == (4, 4, 0, 12)
    by = {own["name"]: own for own in told["annotators"]}
    assert by["ann"]["agreeing"] == pytest.approx((0.5 + 1 + 1 + 1) / 4) and by["ann"]["compared"] == 4
    assert by["cem"]["agreeing"] == pytest.approx((0 + 1 + 1) / 3) and by["cem"]["judged"] == 4
    assert told["agreement"]["units"] == 4 and 0.3 < told["agreement"]["alpha"] < 1
    json.dumps(told, allow_nan=False)
    one_sided = agreed([("p0", "ann", 0), ("p0", "bob", 0)])
    json.dumps(one_sided, allow_nan=False)


def test_the_routes(causal: RewardModel, store: JudgementStore) -> None:
    with serving(causal, more=[router(Desk(store))]) as client:
        shown = client.get("/judge/next", params={"annotator": " ann "}).json()["pair"]
        body = {"token": "t1", "pair": shown["id"], "annotator": "ann", "strength": 2, "turned": shown["turned"]}
        assert client.post("/judge", json=body).json() == {"kept": True, "new": True}
        assert client.post("/judge", json=body).json() == {"kept": True, "new": False}
        assert client.post("/judge", json=body | {"token": "t2"}).status_code == 409
        assert client.post("/judge", json=body | {"pair": "x", "token": "t3"}).status_code == 404
        assert client.post("/judge", json=body | {"strength": 9, "token": "t3"}).status_code == 400
        assert client.post("/judge", json={"token": "t3"}).status_code == 422
        assert client.get("/judge/status").json()["judgements"] == 1
        lines = client.get("/judge/export").text.splitlines()
        assert len(lines) == 1 and json.loads(lines[0])["edges"][0]["annotator"] == "ann"
        assert client.post("/judge/undo", json={"token": "t1", "annotator": "ann"}).json() == {
            "undone": True, "stood": True
        }  # fmt: skip
        assert client.get("/judge/export").text == ""
        assert "judge" in client.get("/model").json()["page"]


def test_a_database_that_is_lost_is_told(
    causal: RewardModel, store: JudgementStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    def lost(*_: Any, **__: Any) -> Any:
        raise OperationalError("insert", {}, Exception("gone"))

    with serving(causal, more=[router(Desk(store))]) as client:
        with monkeypatch.context() as patch:
            patch.setattr(store, "record", lost)
            reply = client.post("/judge", json={"token": "t", "pair": "p0", "annotator": "a", "strength": 1})
            assert reply.status_code == 503 and "send what was not again" in reply.json()["error"]["remedy"]
        assert (
            client.post("/judge", json={"token": "t", "pair": "p0", "annotator": "a", "strength": 1}).status_code == 200
        )


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("/nowhere/at/all/j.db", "cannot be reached"),
        ("postgresql+psycopg://user:s3cret@127.0.0.1:9/none", "database"),
        ("nosuch://host/x", "no database that can be used"),
    ],
)
def test_a_database_that_cannot_be_used(place: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        JudgementStore(place, timeout_s=2)
    assert "s3cret" not in str(error.value)


def test_many_at_once(tmp_path: Path) -> None:
    """Eight annotators judge the same hundred pairs from eight threads, and send every judgement twice."""
    store = JudgementStore(str(tmp_path / "j.db"))
    store.bring(some(100), shared=1.0)
    desk = Desk(store)

    def work(name: str) -> int:
        new = 0
        while (shown := desk.next(name)["pair"]) is not None:
            for _ in range(2):
                new += desk.judge(f"{name}-{shown['id']}", shown["id"], name, 1, turned=shown["turned"])
        return new

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, [f"a{k}" for k in range(8)])) == [100] * 8
    assert len(store.standing()) == 800
    assert sum(len(record["edges"]) for record in store.export()) == 800


def test_pairs_of_a_folder_of_select_and_of_plain_data(
    model_folder: Path, causal: RewardModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from assay.cli import main

    data = tmp_path / "unjudged.jsonl"
    rows = [{"prompt": f"Name sea {k}.", "responses": [f"One {k}.", f"Other, certainly {k}."]} for k in range(6)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert main(["select", str(model_folder), str(data), "--out", str(tmp_path / "s"), "--count", "4"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "s" / "pairs.jsonl").read_text("utf-8").splitlines()]

    def settings(place: Path) -> ServeSettings:
        return ServeSettings(model=str(model_folder), judging=JudgingSettings(pairs=str(place), count=4))

    for place in (tmp_path / "s", tmp_path / "s" / "pairs.jsonl", data):
        found, told = pairs_to_judge(settings(place), causal)
        assert [pair.a for pair in found] == [line["response_a"] for line in lines] and "4 pairs to judge" in told
    assert [turn["content"] for turn in found[0].prompt] == [lines[0]["prompt"]]


def test_a_pair_is_the_same_whoever_chose_it(tmp_path: Path) -> None:
    """Other numbers, sides turned round, a second round with new texts under an old name."""
    line = {"id": "x.0.1", "prompt": "Name a sea.", "response_a": "One.", "response_b": "Other."}
    turned = {"id": "x.1.0", "prompt": "Name a sea.", "response_a": "Other.", "response_b": "One."}
    renewed = {"id": "x.0.1", "prompt": "Name a sea.", "response_a": "One.", "response_b": "Third."}
    store = JudgementStore(str(tmp_path / "j.db"))
    assert [store.bring(pairs_of_lines([one], "f")) for one in (line, turned, renewed)] == [1, 1, 2]
    store.close()


def test_who_says_nothing_of_the_order_is_not_misread(store: JudgementStore) -> None:
    desk = Desk(store, votes=9)
    names = [name for name in map(str, range(40)) if Desk.turned("p0", name)][:2]
    desk.judge("t1", "p0", names[0], 3)
    assert store.standing() == [("p0", names[0], -3)], "what was shown first to him is b"
    with pytest.raises(Conflict, match="another order"):
        desk.judge("t2", "p0", names[1], 3, turned=False)


def test_a_damaged_file_of_pairs_is_told_by_its_line(model_folder: Path, causal: RewardModel, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "response_a": "b", "response_b": "c"}\n{"prompt"\n', "utf-8")
    settings = ServeSettings(model=str(model_folder), judging=JudgingSettings(pairs=str(tmp_path)))
    with pytest.raises(DataError, match=r"pairs\.jsonl:2"):
        pairs_to_judge(settings, causal)


def test_dialogues_and_lines_that_are_none() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    line = {f"conversation_{side}": [*turns, {"role": "assistant", "content": side}] for side in "ab"}
    (pair,) = pairs_of_lines([line, line], "f")
    assert (pair.a, pair.b, len(pair.prompt)) == ("a", "b", 3) and pair.id
    wrong: dict[str, Any]
    for wrong in ({}, {"prompt": "a", "response_a": "b"}, {"conversation_a": [], "conversation_b": []}):
        with pytest.raises(DataError, match="f:1"):
            pairs_of_lines([wrong], "f")
    with pytest.raises(DataError, match="no pair"):
        pairs_of_lines([], "f")


def test_who_cannot_choose_pairs_and_what_holds_none(tiny_chat: Path, causal: RewardModel, tmp_path: Path) -> None:
    from assay.scorers.policy_loading import PolicyOptions, create_policy

    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "utf-8")
    settings = ServeSettings(model=str(tiny_chat), judging=JudgingSettings(pairs=str(tmp_path / "d.jsonl")))
    policy: Any = create_policy(PolicyOptions(str(tiny_chat)))
    with pytest.raises(ModelError, match="a policy cannot choose"):
        pairs_to_judge(settings, policy)
    with pytest.raises(DataError, match="no pair left to judge"):
        pairs_to_judge(settings, causal)
