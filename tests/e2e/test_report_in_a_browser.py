"""The report in a real browser: light, dark, on a phone, printed, and with nothing asked of anyone."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reports import HOSTILE, report
from training.report.page import page

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
PAGES = {
    "texts": {},
    "texts with many classes": {"classes": 30},
    "tags": {"steps": True},
    "series": {"kind": "series"},
    "without examples": {"examples": False},
}
# A sheet of A4 between its margins, in pixels.
WIDE, PHONE, SHEET = 1200, 390, 716


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no Chromium here; `make browser` installs it")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module", params=PAGES)
def shown(request: pytest.FixtureRequest, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The browser with one of the pages open."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(report(**PAGES[request.param])), encoding="utf-8")
    # The browser's own first page asks for much; what it asked for so far is forgotten.
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    return browser


def emulate(browser: Any, *, width: int = WIDE, scheme: str = "light", media: str = "screen") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def style(browser: Any, selector: str, name: str) -> str:
    script = "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])"
    value: str = browser.execute_script(script, selector, name)
    return value


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def requests(browser: Any) -> list[str]:
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]


def test_the_page_asks_nobody_for_anything_and_complains_of_nothing(shown: Any) -> None:
    emulate(shown)
    asked = requests(shown)
    assert not [url for url in asked if not url.startswith("file://")]
    assert shown.get_log("browser") == []
    assert shown.execute_script("return document.scripts.length") == 0
    assert len(shown.execute_script("return document.querySelector('main').innerText")) > 2000


@pytest.mark.parametrize("width", [WIDE, 800, PHONE])
def test_the_page_never_scrolls_sideways(shown: Any, width: int) -> None:
    emulate(shown, width=width)
    inside, whole = shown.execute_script("const e = document.documentElement; return [e.clientWidth, e.scrollWidth]")
    assert inside == width
    assert whole <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(shown: Any, scheme: str) -> None:
    emulate(shown, scheme=scheme)
    behind = {"body": "body", ".note": "body", ".card td": ".card", ".tile small": ".tile", ".said .answer": ".card"}
    for selector, background in behind.items():
        colours = style(shown, selector, "color"), style(shown, background, "background-color")
        assert contrast(*colours) >= 4.5, (selector, colours)
    assert (luminance(style(shown, "body", "background-color")) > 0.5) == (scheme == "light")


def test_plots_and_bars_have_their_colours_though_no_script_runs(shown: Any) -> None:
    emulate(shown)
    assert style(shown, ".plot .dot.c1", "fill") == "rgb(37, 99, 235)"
    widths = "return [...document.querySelectorAll('.plot')].map(e => e.getBoundingClientRect().width)"
    assert all(300 < width <= 440 for width in shown.execute_script(widths))
    background = style(shown, ".confusion td.right", "background-color")
    assert background not in ("rgba(0, 0, 0, 0)", style(shown, ".card", "background-color"))


def test_every_figure_of_a_plot_lies_inside_it(shown: Any) -> None:
    emulate(shown)
    script = """
    return [...document.querySelectorAll('.plot')].flatMap(plot => {
      const box = plot.getBoundingClientRect();
      return [...plot.querySelectorAll('text, circle, polyline, line')].filter(mark => {
        const at = mark.getBoundingClientRect();
        return at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1;
      }).map(mark => plot.getAttribute('aria-label') + ': ' + mark.outerHTML);
    })"""
    assert shown.execute_script(script) == []


def test_what_stands_in_the_data_is_shown_and_does_nothing(shown: Any) -> None:
    emulate(shown)
    assert HOSTILE in shown.execute_script("return document.querySelector('#choice').innerText")
    policy = "return document.querySelector('meta[http-equiv=Content-Security-Policy]').content"
    assert shown.execute_script(policy) == "default-src 'none'; style-src 'unsafe-inline'"


def test_it_prints_in_black_on_white_whatever_the_screen_has(shown: Any, tmp_path: Path) -> None:
    emulate(shown, scheme="dark", media="print")
    assert style(shown, "body", "background-color") == "rgb(255, 255, 255)"
    assert luminance(style(shown, "body", "color")) < 0.05
    assert style(shown, "nav", "display") == "none"
    # A sheet cannot be scrolled: what is wider than its place is lost.
    emulate(shown, media="print", width=SHEET)
    script = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert shown.execute_script(script) == 0
    printed = base64.b64decode(shown.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF-")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 30
