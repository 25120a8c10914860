"""The report in a real browser: it draws, nothing overflows, nothing is complained about."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from assay.evaluation import ReportContent, render_report

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium to check how the report looks"),
]
# A page outside the report measures it in a frame: the report itself holds no script.
_PROBE = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<iframe id="f" style="width:{width}px;height:3000px;border:0"></iframe><pre id="out"></pre><script>
const frame = document.getElementById("f");
frame.onload = () => {{
  const d = frame.contentDocument, all = [...d.querySelectorAll("body *")];
  const clipped = [...d.querySelectorAll("svg.figure")].flatMap(svg => {{
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter(t => {{
      const r = t.getBoundingClientRect();
      return r.left < box.left - 2 || r.right > box.right + 2 || r.top < box.top - 2 || r.bottom > box.bottom + 2;
    }}).map(t => t.textContent);
  }});
  document.getElementById("out").textContent = JSON.stringify({{
    wide: d.documentElement.scrollWidth > {width}, clipped, figures: d.querySelectorAll("svg.figure").length,
    flat: [...d.querySelectorAll("svg.figure")].filter(s => s.getBoundingClientRect().height < 60).length,
  }});
}};
frame.srcdoc = {page};
</script>"""


def _chromium(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"]
    command = [str(CHROMIUM), *flags, f"--user-data-dir={tmp_path / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def test_screenshot_shows_colours_and_the_console_is_silent(tmp_path: Path, full_content: ReportContent) -> None:
    from PIL import Image

    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(render_report(full_content), encoding="utf-8")
    done = _chromium(tmp_path, f"--screenshot={picture}", "--window-size=1000,5000", page.as_uri())
    assert re.findall(r".*CONSOLE.*", done.stderr) == []
    with Image.open(picture) as image:
        assert image.size == (1000, 5000)
        red, green, blue = np.asarray(image.convert("RGB"), dtype=np.int64).transpose(2, 0, 1)
    colours = set(np.unique((red << 16) + (green << 8) + blue).tolist())
    assert {0x1F5FA8, 0xB8500F} <= colours, "the two series of the figures, in the page's colours"


@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_is_cut_off_or_overflows(tmp_path: Path, full_content: ReportContent, width: int) -> None:
    import json

    probe = tmp_path / "probe.html"
    text = json.dumps(render_report(full_content)).replace("</", "<\\/")
    probe.write_text(_PROBE.format(width=width, page=text), encoding="utf-8")
    dumped = _chromium(tmp_path, "--virtual-time-budget=3000", "--dump-dom", probe.as_uri()).stdout
    match = re.search(r'<pre id="out">(.*?)</pre>', dumped, re.DOTALL)
    assert match, "the probe did not run"
    assert json.loads(match[1]) == {"wide": False, "clipped": [], "figures": 9, "flat": 0}
