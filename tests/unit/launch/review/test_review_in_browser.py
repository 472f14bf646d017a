"""The app in a real Chromium: reviewed by keyboard, reloaded, in both languages, without a word from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_data import HOSTILE

from launch.review import read_all
from launch.review.store import read_decisions

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_MS = 240_000  # of a machine that is busy with something else
GRADIO = "Method not implemented."  # a warning of its client at the end of every upload
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def address(run: Path) -> Iterator[str]:
    """The app as a user starts it, on a free port."""
    command = [sys.executable, "-m", "launch.cli", "review", str(run), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = next(line for line in process.stdout if line.startswith("open "))
            yield line.split()[1]
        finally:
            process.terminate()


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail("no Chromium found; install it (Debian: apt-get install chromium), or name it in CHROMIUM")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 900})
        context.set_default_timeout(WAIT_MS)
        opened = context.new_page()
        opened.said, opened.asked = [], []
        opened.on("console", lambda message: message.text == GRADIO or opened.said.append(message.text))
        opened.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.on("dialog", lambda dialog: (opened.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(address)
        yield opened
        browser.close()


def ready(page: Any) -> None:
    """Wait until a photo is shown and may be decided about."""
    page.wait_for_selector("#rf-accept:enabled")


def decided(page: Any, count: int) -> None:
    page.wait_for_selector(f"#rf-done:text-is('{count} decided')")
    ready(page)


def faults(page: Any) -> dict[str, list[str]]:
    """Serious and critical faults that axe-core finds, with the elements that have them."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    graves = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    return {fault["id"]: [node["html"][:200] for node in fault["nodes"][:3]] for fault in graves}


@pytest.mark.slow
def test_twenty_photos_by_keyboard(page, address, run, photo_dir):
    page.wait_for_selector("body[data-riskfuse=ready]")
    # Without a name nothing is decided.
    ready_to_name = page.locator("#rf-problem")
    ready_to_name.wait_for()
    assert "enter your name" in ready_to_name.inner_text()
    page.fill("#rf-reviewer", "../Anna <b>")
    page.keyboard.press("Enter")
    ready(page)
    assert page.input_value("#rf-reviewer") == "Anna_b"
    # The photo with the hostile name comes first; its name is text.
    assert page.inner_text("#rf-name") == f"board_b/{HOSTILE}"
    assert page.locator("img[onerror]").count() == 0
    assert faults(page) == {}

    directory = run / "review"
    total = int(re.search(r"of (\d+)", page.inner_text("#rf-at")).group(1))
    assert total > 21
    # A note may hold every key; it decides nothing.
    page.keyboard.press("m")
    page.keyboard.type("a 1 n u <img src=x onerror=alert(2)>")
    page.keyboard.press("Escape")
    assert page.inner_text("#rf-at") == f"1 of {total}"
    for count in range(1, 11):
        page.keyboard.press(str((count - 1) % 5 + 1) if count % 2 else "a")
        decided(page, count)
    found = read_decisions(directory, "Anna_b")
    assert len(found.labels) == 10
    assert found.last[f"board_b/{HOSTILE}"].note == "a 1 n u <img src=x onerror=alert(2)>"
    # A note that is still being typed when the page goes is not lost either.
    page.keyboard.press("m")
    page.keyboard.type("half a no")
    page.reload()
    page.wait_for_selector("body[data-riskfuse=ready]")
    decided(page, 10)
    assert page.inner_text("#rf-at") == f"11 of {total}"
    assert page.input_value("#rf-reviewer") == "Anna_b"
    assert page.input_value("#rf-note") == "half a no"
    for count in range(11, 21):
        page.keyboard.press("Enter" if count % 2 else "2")
        decided(page, count)
    page.keyboard.press("u")
    decided(page, 19)
    assert page.inner_text("#rf-at") == f"20 of {total}"
    page.keyboard.press("5")
    decided(page, 20)
    assert len(read_decisions(directory, "Anna_b").labels) == 20
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("p")
    ready(page)
    assert page.inner_text("#rf-at") == f"19 of {total}"
    assert page.locator("#rf-labels [aria-pressed=true]").count() == 1
    page.keyboard.press("g")
    ready(page)
    assert page.inner_text("#rf-at") == f"21 of {total}"
    assert [each.damaged for each in read_all(directory)] == [()]

    page.click("#rf-languages button[value='zh-CN']")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.inner_text("#rf-at") == f"第 21 / {total} 张"
    assert page.inner_text("#rf-tab-one") == "单张照片"
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert faults(page) == {}

    page.click("#rf-tab-one")
    assert not page.locator("#rf-review").is_visible()
    page.set_input_files("#rf-upload input[type=file]", str(photo_dir / "000.png"))
    problem = page.locator("#rf-scored .rf-problem")
    problem.wait_for()
    assert "recipes/base.yaml" in problem.inner_text()  # of this run there are no models
    page.keyboard.press("a")  # keys are of the other tab
    assert faults(page) == {}
    assert len(read_decisions(directory, "Anna_b").labels) == 20
    assert page.said == []
    assert [url for url in page.asked if not url.startswith((address, "data:", "blob:"))] == []
