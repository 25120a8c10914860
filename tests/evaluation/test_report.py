from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from assay.errors import OutputError
from assay.evaluation import ReportContent, evaluate, render_report, write_report
from assay.evaluation.figures import learning_curve

_VOID = {"meta", "link", "br", "img", "hr", "input", "path", "use", "rect"}


class _Tree(HTMLParser):
    """Checks nesting, and collects ids and everything that could be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.ids += [value or ""] if name == "id" else []
            self.fetched += [value or ""] if name in {"src", "href", "srcset", "action", "xlink:href"} else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(full_content: ReportContent) -> str:
    return render_report(full_content)


def test_is_one_file_that_fetches_nothing(page: str) -> None:
    tree = _Tree()
    tree.feed(page)
    assert tree.open == []
    assert all(link.startswith(("#", "data:")) for link in tree.fetched), tree.fetched
    assert not re.search(r"https?://|@import|<script", page)
    assert len(tree.ids) == len(set(tree.ids))
    assert {link[1:] for link in tree.fetched if link.startswith("#")} <= set(tree.ids)


def test_figures_use_only_colours_of_the_page(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 9
    for drawing in drawings:
        assert "var(--" in drawing and not re.search(r"#[0-9a-f]{6}\b", drawing)
        assert "<style" not in drawing and "<text" in drawing


def test_says_the_numbers_in_words(full_content: ReportContent, page: str) -> None:
    found = full_content.evaluation
    assert found is not None and found.accuracy.ci95 is not None
    low, high = found.accuracy.ci95
    assert f"in {100 * found.accuracy.value:.1f} % of 295 held-out judgements" in page
    assert f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)" in page
    assert "5 judged ties are left out" in page.replace("\n", " ")
    for heading in (
        "Result",
        "Learning curve",
        "The data",
        "Its most confident mistakes",
        "The run",
        "Words used here",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert "learning_rate: 2.0e-05" in page and "tokens per second" in page


def test_texts_are_escaped_and_clipped(page: str) -> None:
    assert "<b>bold</b>" not in page and "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert "all 3,000 characters" in page and "[9 line breaks]" in page


def test_absent_sections_are_left_out_or_say_why() -> None:
    bare = render_report(ReportContent(title="Nothing yet"))
    assert "so nothing was measured" in bare and "<svg" not in bare
    for heading in ("Learning curve", "The data", "Its most confident mistakes", "The run"):
        assert f"<h2>{heading}</h2>" not in bare
    told = render_report(
        ReportContent(title="t", missing={"learning": "no step was logged", "evaluation": "test share 0"})
    )
    assert "No step was logged" in told and "Learning curve" in told and "Test share 0" in told
    assert "so nothing was measured" not in told


def test_nothing_decided(draw: Callable) -> None:
    data, delta = draw(5, 1, ties=5)
    page = render_report(ReportContent(title="ties", evaluation=evaluate(data, delta, resamples=20)))
    assert "No held-out judgement takes a side" in page


def test_same_content_gives_the_same_bytes(draw: Callable) -> None:
    data, delta = draw(40)
    content = ReportContent(title="t", evaluation=evaluate(data, delta, resamples=50), train_loss=[(1, 0.7), (2, 0.6)])
    assert render_report(content) == render_report(content)


def test_labels_in_any_script_draw_without_warnings(draw: Callable) -> None:
    from dataclasses import replace

    data, delta = draw(30)
    names = np.array(["标注员 甲", "$x$ & <y>"])
    data = replace(data, source=names[np.arange(len(data)) % 2])
    page = render_report(ReportContent(title="t", evaluation=evaluate(data, delta, resamples=20)))
    assert "标注员 甲" in page and "$x$ &amp; &lt;y&gt;" in page


def test_learning_curve_smooths_only_long_curves() -> None:
    short = learning_curve([(k, 1 / (k + 1)) for k in range(5)])
    long = learning_curve([(k, 1 / (k + 1)) for k in range(200)])
    assert "opacity: 0.35" in long and "opacity: 0.35" not in short


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", ReportContent(title="t"))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OutputError):
        write_report(tmp_path / "report.html" / "below.html", ReportContent(title="t"))
