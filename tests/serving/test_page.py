"""The page in a real browser: scoring, the heat-map, judging with undo, export, texts that are no markup."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from assay.scorers import RewardModel
from tests.serving.conftest import process

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="NO PLAYWRIGHT: pip install playwright to drive the page"
)
expect = playwright.expect
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium to drive the page"),
]
EVIL = "<img src=x onerror=\"document.title='owned'\"><b>bold</b><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def place(model_folder: Path, tmp_path_factory: pytest.TempPathFactory, pairs_file: Path) -> Iterator[str]:
    """Serve a causal model with everything that the page can show."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "runs" / "one").mkdir(parents=True)
    report = "<html><title>A run</title><body><p id='x'>a report</p></body></html>"
    (folder / "runs" / "one" / "report.html").write_text(report, "utf-8")
    rows = [{"prompt": f"Name sea {k}. {EVIL}", "response_a": f"One {k} {EVIL}", "response_b": f"Other {k}.",
             "id": f"p{k}"} for k in range(5)]  # fmt: skip
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = [str(model_folder), "--data", str(pairs_file), "--rows", "12", "--runs", str(folder / "runs"),
             "--against", str(model_folder), "--judging.pairs", str(folder / "pairs.jsonl"), "--judging.shared", "1.0",
             "--judging.database", str(folder / "j.db")]  # fmt: skip
    with process(*words, key="s3cret") as (_, address):
        yield address


@pytest.fixture
def page(place: str) -> Iterator[Any]:
    """Return the page after the key was given; what it complains of fails the test."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True).new_page()
        complaints: list[str] = []
        found.on("pageerror", lambda error: complaints.append(str(error)))
        found.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        found.set_default_timeout(20_000)
        found.goto(place)
        found.fill("#key-field", "wrong")
        found.keyboard.press("Enter")
        found.get_by_text("This is not the key.").wait_for()
        found.fill("#key-field", "s3cret")
        found.keyboard.press("Enter")
        found.wait_for_selector("#go")
        yield found
        assert found.title() == "rm · assay"
        expected = ("401", "net::ERR_FAILED")  # a key that was missing, and what a test cuts off
        assert [line for line in complaints if not any(part in line for part in expected)] == []
        browser.close()


def score(page: Any, prompt: str, *responses: str) -> None:
    page.fill("#prompt", prompt)
    for number, text in enumerate(responses):
        if number >= 2:
            page.get_by_role("button", name="Add a response").click()
        page.fill(f"#response-{number}", text)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#verdict")


def test_scores_probability_and_tokens(page: Any, causal: RewardModel) -> None:
    score(page, "Name a sea.", "The Baltic.", "No.")
    p = causal.probability(["Name a sea."], ["The Baltic."], ["No."])[0]
    shown = page.inner_text("#verdict")
    assert f"{100 * max(p, 1 - p):.0f} %" in shown and ("A" if p > 0.5 else "B") + " is preferred" in shown
    values = {card.get_attribute("aria-label"): card.inner_text() for card in page.query_selector_all(".result")}
    for name, text in (("Response A", "The Baltic."), ("Response B", "No.")):
        assert f"{causal.score(['Name a sea.'], [text])[0]:.3f}" in values[name]
    prefixes = causal.prefix_scores("Name a sea.", "The Baltic.")
    tokens = page.locator("article[aria-label='Response A'] .token")
    assert tokens.count() == len(prefixes) - 1
    tokens.nth(1).hover()
    told = page.inner_text("article[aria-label='Response A'] .reading")
    assert f"score so far {prefixes[2]:.3f}" in told
    heat = page.locator("article[aria-label='Response A'] .heat")
    heat.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert "score so far" in page.inner_text("article[aria-label='Response A'] .reading")
    assert page.locator(".token.now").count() == 1


def test_three_responses_long_ones_and_texts_that_are_no_markup(page: Any) -> None:
    score(page, EVIL, "The Baltic.", EVIL, "certainly " * 300)
    assert "Best first" in page.inner_text("#verdict")
    assert page.locator(".result").count() == 3 and page.locator(".result img, .result b, .result script").count() == 0
    assert "were not read" in page.inner_text("article[aria-label='Response C']")
    page.locator("article[aria-label='Response B'] summary").first.click()
    assert "onerror" in page.inner_text("article[aria-label='Response B']")


def test_data_leads_to_scores(page: Any) -> None:
    page.click("#tab-data")
    page.wait_for_selector(".pair-row")
    page.get_by_text("pairs; ").wait_for()
    for order in ("file", "uncertain", "disagreement"):
        with page.expect_response(lambda reply, own=order: f"by={own}" in reply.url) as caught:
            page.select_option("#order", order)
        assert caught.value.status == 200
    page.select_option("#order", "file")
    with page.expect_response(lambda reply: "search=bird" in reply.url):
        page.fill("#search", "bird")
    expect(page.locator(".pair-row").first).to_contain_text("bird")
    assert all("bird" in text.lower() for text in page.locator(".pair-row").all_inner_texts())
    page.locator(".pair-row").first.click()
    page.wait_for_selector("#verdict")
    assert "bird" in page.input_value("#prompt").lower()


def test_judging_with_undo_and_export(page: Any, place: str, tmp_path: Path) -> None:
    page.click("#tab-judge")
    page.fill("#annotator", "Ada")
    page.keyboard.press("Enter")
    page.wait_for_selector("#strength")
    shown = [page.inner_text("#first"), page.inner_text("#second")]
    assert any("onerror" in text for text in shown), "a text, not a picture"
    page.keyboard.press("2")
    page.get_by_text("4 of 5 pairs remain").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#strength")).to_have_attribute("aria-valuetext", "Second better")
    page.click("#send")
    page.get_by_text("3 of 5 pairs remain").wait_for()
    page.keyboard.press("u")
    page.get_by_text("4 of 5 pairs remain").wait_for()
    page.keyboard.press("s")
    expect(page.locator("#progress tbody")).to_contain_text("Ada11")
    with page.expect_download() as caught:
        page.click("#export")
    caught.value.save_as(tmp_path / "export.jsonl")
    (record,) = [json.loads(line) for line in (tmp_path / "export.jsonl").read_text("utf-8").splitlines()]
    (edge,) = record["edges"]
    assert edge["annotator"] == "Ada" and edge["confidence"] == 2.0 and edge["p"] == 1.0
    better = record["responses"][edge["a"]]
    assert better.strip() == shown[0].strip(), "the one that was shown first"


def test_a_judgement_outlives_a_server_that_is_gone(page: Any, place: str) -> None:
    page.click("#tab-judge")
    page.fill("#annotator", "Bob")
    page.keyboard.press("Enter")
    page.wait_for_selector("#strength")
    for lost_before in (True, False):  # the judgement on its way there, and the acknowledgement on its way back

        def cut(route: Any, before: bool = lost_before) -> None:
            if not before:
                headers = {"Authorization": "Bearer s3cret", "Content-Type": "application/json"}
                kept = httpx.post(f"{place}/judge", content=route.request.post_data, headers=headers)
                assert kept.json() == {"kept": True, "new": True}
            route.abort()

        shown = page.inner_text("#first")
        page.route("**/judge", cut)
        page.keyboard.press("1")
        page.get_by_text("is kept in this browser").wait_for()
        page.unroute("**/judge")
        page.keyboard.press("Enter")  # sends what was lost, and judges nothing else
        expect(page.locator("#first")).not_to_have_text(shown)
        assert page.evaluate("localStorage.getItem('assay-unsent')") is None
    expect(page.locator("#progress tbody tr", has_text="Bob")).to_contain_text("Bob2")
    page.keyboard.press("u")
    expect(page.locator("#progress tbody tr", has_text="Bob")).to_contain_text("Bob1")


def test_runs_the_card_and_the_theme(page: Any) -> None:
    page.click("#tab-runs")
    page.get_by_text("A run").wait_for()
    with page.context.expect_page() as caught:
        page.get_by_text("A run").click()
    assert caught.value.inner_text("#x") == "a report"
    page.click("#tab-model")
    page.get_by_text("Fingerprint").wait_for()
    colours = []
    for _ in range(3):
        page.click("#theme")
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(set(colours)) == 2
    page.focus("#tab-model")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#go")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it fits a telephone"
