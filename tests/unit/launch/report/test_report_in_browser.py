"""The report in a real Chromium: quiet, self-contained, fast, usable by keyboard, by screen reader and on a phone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_data import HOSTILE, make_run

from dataset_builders.task_card import TaskCard
from launch.report import write_report
from launch.report.run_files import find_run

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PHONE = {"width": 390, "height": 844}
BUILD_S, OPEN_S, BYTES = 30.0, 2.0, 10_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium of the system; a machine without one fails here, for a page that nobody opened is not tested."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail("no Chromium found; install it (Debian: apt-get install chromium), or name it in CHROMIUM")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """A page, what its console said, and what it asked the network for."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.file = file
        self.page.goto(file.as_uri())

    @property
    def outside(self) -> list[str]:
        return [url for url in self.requests if not url.startswith("data:") and url != self.file.as_uri()]

    def faults(self) -> dict[str, list[str]]:
        """Serious and critical faults that axe-core finds, with the elements that have them."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        graves = [fault for fault in found if fault["impact"] in ("serious", "critical")]
        return {fault["id"]: [node["html"][:200] for node in fault["nodes"][:3]] for fault in graves}


@pytest.fixture(scope="module")
def full_page(full_run: Path) -> Path:
    write_report(find_run(full_run), full_run / "browser.html")
    return full_run / "browser.html"


@pytest.fixture(scope="module")
def bare_page(bare_run: Path) -> Path:
    write_report(find_run(bare_run), bare_run / "browser.html")
    return bare_run / "browser.html"


def open_all(opened: Opened) -> None:
    opened.page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")


@pytest.mark.parametrize("name", ["full_page", "bare_page"])
@pytest.mark.parametrize(
    ("size", "scheme"),
    [({"width": 1280, "height": 900}, "light"), (PHONE, "dark")],
    ids=["desktop-light", "phone-dark"],
)
def test_page_is_quiet_fits_and_has_no_serious_fault(browser, request, name, size, scheme):
    """Either size and either scheme once: neither's faults are hidden by the other's."""
    opened = Opened(browser, request.getfixturevalue(name), color_scheme=scheme, viewport=size)
    for language in ("en", "zh-CN"):
        opened.page.click(f"#languages button[value='{language}']")
        open_all(opened)
        assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.faults() == {}
    assert opened.said == []
    assert opened.outside == []
    opened.page.context.close()


def test_a_serious_fault_would_be_found(browser, full_page):
    opened = Opened(browser, full_page)
    opened.page.evaluate("document.querySelector('.card img').removeAttribute('alt')")
    assert list(opened.faults()) == ["image-alt"]
    opened.page.context.close()


def test_language_changes_without_reload_and_is_remembered(browser, full_page):
    opened = Opened(browser, full_page, locale="en-GB")
    page = opened.page
    root, chinese = page.locator("html"), page.locator("#languages button[lang='zh-CN']")
    assert (root.get_attribute("lang"), chinese.get_attribute("aria-pressed")) == ("en", "false")
    assert page.locator("#scores h2").inner_text() == "Scores"
    page.evaluate("window.same = true")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    chinese.focus()
    assert chinese.evaluate("(button) => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert (root.get_attribute("lang"), chinese.get_attribute("aria-pressed")) == ("zh-CN", "true")
    assert page.locator("#scores h2").inner_text() == "得分"
    assert page.title().endswith("：报告")
    assert page.evaluate("window.same")
    page.reload()
    assert root.get_attribute("lang") == "zh-CN"
    assert opened.said == []
    page.context.close()


def test_language_switch_works_where_storage_is_forbidden(browser, full_page):
    context = browser.new_context(locale="zh-CN")
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } });"
    )
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(full_page.as_uri())
    assert page.locator("html").get_attribute("lang") == "zh-CN"  # as the reader's browser is set
    page.click("#languages button[value='en']")
    assert page.locator("html").get_attribute("lang") == "en"
    assert said == []
    context.close()


def test_page_is_whole_without_scripts(browser, full_page):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(full_page.as_uri())
    assert page.locator("#scores h2").inner_text() == "Scores"
    assert not page.locator("#languages").is_visible()
    page.context.close()


def test_a_photo_s_name_is_shown_and_not_run(browser, full_page):
    opened = Opened(browser, full_page)
    opened.page.wait_for_timeout(300)
    assert opened.page.locator(".card .name", has_text=HOSTILE).count() >= 1
    assert opened.page.locator("img[onerror]").count() == 0
    # Even markup that had slipped through could neither run nor load anything.
    opened.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"x.png\" onerror=\"alert(1)\">')")
    opened.page.wait_for_timeout(300)
    assert not [line for line in opened.said if line.startswith("dialog")]
    assert any("Content Security Policy" in line for line in opened.said)
    opened.page.context.close()


def test_print_shows_everything_in_one_language_on_white(browser, full_page):
    opened = Opened(browser, full_page, color_scheme="dark")
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not opened.page.locator("nav").is_visible()
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.page.locator("details:not([open])").count() == 0
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.page.locator("details:not([open])").count() > 0
    assert len(opened.page.pdf()) > 10_000
    opened.page.context.close()


def test_ten_thousand_photos(browser, tmp_path, card: TaskCard):
    """Photos of a camera's shape; 12,000 with the second source. Times are generous on a busy machine's behalf."""
    specialists = ("high_risk", "clutter", "objects")
    run = make_run(tmp_path, card, photos=10_000, specialists=specialists, image_size=(1600, 1200))
    started = time.process_time()
    report = write_report(find_run(run), run / "report.html")
    built_s = time.process_time() - started
    assert report.fusion.photos == 12_000
    assert (run / "report.html").stat().st_size < BYTES
    assert built_s < BUILD_S
    times = []
    for _ in range(3):
        started = time.perf_counter()
        opened = Opened(browser, run / "report.html")
        times.append(time.perf_counter() - started)
        assert opened.said == opened.outside == []
        opened.page.context.close()
    print(f"{(run / 'report.html').stat().st_size:,} bytes, built in {built_s:.1f} s, opened in {min(times):.2f} s")
    assert min(times) < OPEN_S
