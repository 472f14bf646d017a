"""Recipes in LlamaBoard: the real page in a real Chromium shows them, and its command is the recipe."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from dataset_builders.errors import ConfigError
from launch.cli import main
from launch.llamaboard import config_name, llamaboard_values
from launch.recipe import TrainingRecipe, load_recipe

ROOT = Path(__file__).parents[3]
RECIPES = ("recipes/tiny/base.yaml", "recipes/high_risk_amplified.yaml", "recipes/base.yaml")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_MS = 60_000

pytestmark = pytest.mark.slow  # the page starts in 15 seconds, and importing LLaMA-Factory takes some, too


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory of its own: LlamaBoard writes to the current one."""
    for name in ("recipes", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe_with(**changes) -> TrainingRecipe:
    raw = yaml.safe_load((ROOT / RECIPES[0]).read_text(encoding="utf-8")) | changes
    return TrainingRecipe(Path("recipe.yaml"), {key: value for key, value in raw.items() if value is not None})


def test_names_and_command(here, capsys):
    assert [config_name(Path(recipe)) for recipe in RECIPES] == [
        "tiny-base.yaml",
        "high_risk_amplified.yaml",
        "base.yaml",
    ]
    assert main(["llamaboard", RECIPES[0]]) == 0
    said = capsys.readouterr().out
    assert "Load arguments" in said
    assert "eval_dataset" in said
    assert Path("llamaboard_config/tiny-base.yaml").is_file()
    assert main(["llamaboard", RECIPES[0], "--name", "../x.yaml"]) == 2
    assert main(["llamaboard", "recipes/base_merge.yaml"]) == 2
    assert "it has no stage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": "dpo"}, "only sft"),
        ({"output_dir": "here"}, "elsewhere"),
        ({"galore_rank": 4}, "galore_rank: LlamaBoard overwrites it"),
        ({"dataloader_pin_memory": False}, "dataloader_pin_memory: LlamaBoard cannot turn it off"),
        ({"save_steps": 5}, "takes 10 to 5000, got 5"),
        ({"template": "llama3"}, "no model that takes photos"),
    ],
)
def test_what_the_page_cannot_hold_is_an_error(changes, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        llamaboard_values(recipe_with(**changes))


def test_silent_recipe_gets_llamafactorys_values_and_not_the_pages():
    names = ("learning_rate", "lora_alpha", "gradient_accumulation_steps", "lr_scheduler_type", "logging_steps")
    values = llamaboard_values(recipe_with(**dict.fromkeys(names)))
    assert values["train.learning_rate"] == "5e-05"
    assert values["train.lora_alpha"] == 32
    assert values["train.gradient_accumulation_steps"] == 1
    assert values["train.lr_scheduler_type"] == "linear"


@pytest.fixture
def page(here):
    """LlamaBoard on a loopback port, opened in Chromium; recipes are converted before."""
    from playwright.sync_api import expect, sync_playwright

    program = os.environ.get("CHROMIUM") or next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail("no Chromium found; install it (Debian: apt-get install chromium), or name it in CHROMIUM")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    environment |= {"GRADIO_ANALYTICS_ENABLED": "False", "BROWSER": "true"}
    command = [sys.executable, "-m", "llamafactory.cli", "webui"]
    with (here / "webui.log").open("w") as log:
        process = subprocess.Popen(command, cwd=here, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}/"
        wait_for(address, process, here / "webui.log")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
            context = browser.new_context(locale="en-GB", viewport={"width": 1400, "height": 1500})
            context.set_default_timeout(WAIT_MS)
            opened = context.new_page()
            opened.goto(address)
            # Its first event fills in names with the present time, also over what somebody typed before.
            expect(opened.get_by_label("Config path")).to_have_value(re.compile(r"^\d.*\.yaml$"), timeout=WAIT_MS)
            yield opened
            browser.close()
    finally:
        process.terminate()
        process.wait()


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + WAIT_MS / 1000
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(log.read_text(encoding="utf-8"))


def preview(page, name: str, model: str) -> dict[str, str]:
    """Load a file as a person does; the arguments that LlamaBoard would start the training with."""
    from playwright.sync_api import expect

    config = page.get_by_label("Config path")
    config.fill(name)
    config.press("Enter")
    page.get_by_role("button", name="Load arguments").click()
    page.get_by_text("Arguments have been restored").wait_for()
    expect(page.get_by_label("Model path")).to_have_value(model, timeout=WAIT_MS)
    page.get_by_role("button", name="Preview command").click()
    code = page.locator("code", has_text="llamafactory-cli train").last
    code.wait_for()
    lines = code.inner_text().replace("\\\n", "\n").splitlines()[1:]
    return dict(line.strip().removeprefix("--").partition(" ")[::2] for line in lines if line.strip())


@pytest.mark.long  # the page alone takes a minute to start
def test_page_shows_the_recipe_and_would_train_it(page, here):
    for path in RECIPES:
        assert main(["llamaboard", path]) == 0
        wanted = dict(load_recipe(path).raw)
        found = preview(page, config_name(Path(path)), wanted["model_name_or_path"])
        if shots := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=f"{shots}/{config_name(Path(path))}.png")
        assert page.get_by_label("Learning rate").input_value() == str(wanted["learning_rate"])
        for key, value in wanted.items():
            if isinstance(value, bool):
                assert found.get(key, "False") == str(value), key
            elif isinstance(value, int | float):
                assert float(found[key]) == value, key
            else:
                assert found[key] == str(value), key
