"""What the documents promise: files and commands that exist, an example that is valid."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from dataset_builders.task_card import load_task_card
from launch import cli
from launch.cli import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "recipes").glob("*.md"))
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_recipes_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w/])(?:recipes|ds_configs)/[\w./-]+\.(?:yaml|json)", text):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_commands_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL))
    for name in re.findall(r"\briskfuse ([a-z][a-z-]*)", code):
        assert name in COMMANDS
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name in re.findall(r"\bmake ([a-z-]+)", code):
        assert name in targets


@pytest.mark.parametrize("document", [*DOCUMENTS, "recipes/augment/corridor.yaml"])
def test_copies_are_verified_by_predictions_that_hold_them(document):
    text = re.sub(r"\\\n#?", " ", (ROOT / document).read_text(encoding="utf-8"))
    for dataset, place in re.findall(r"riskfuse verify (\S+) .*--predictions (\S+)/fold", text):
        assert re.search(rf"riskfuse out-of-fold .*--predict-data {dataset} .*--out {place} ", text)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_headings_lead_somewhere(document):
    path = ROOT / document
    for name, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text(encoding="utf-8")):
        target = path.parent / name if name else path
        headings = re.findall(r"^#+ (.+)", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
        slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert anchor in slugs, f"{name}#{anchor}"


def commands_of(document: str) -> list[list[str]]:
    """The words of each command in the bash blocks, without variables in front and without what follows a pipe."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=\S*", words[0]):
            words.pop(0)
        if words:
            found.append(words)
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_riskfuse_takes_the_options_of_every_command(document, capsys):
    parser = cli._parser()
    for words in commands_of(document):
        if words[0] == "riskfuse":
            try:
                parser.parse_args(words[1:])
            except SystemExit:
                pytest.fail(f"{shlex.join(words)}\n{capsys.readouterr().err}")


def test_cli_page_has_a_row_for_every_command_and_is_right_about_it():
    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    rows = {
        row[0]: row[1:]
        for row in re.findall(r"^\| `riskfuse ([a-z-]+)` \| .*? \| (yes|–) \| .*? \| (.*?) \|$", text, re.M)
    }
    assert tuple(rows) == COMMANDS
    (subparsers,) = [action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    for name, (has_json, after) in rows.items():
        options = [option for action in subparsers.choices[name]._actions for option in action.option_strings]
        assert ("--json" in options) == (has_json == "yes"), name
        assert after.startswith("goes on") == (name in cli._GO_ON), name


@pytest.mark.parametrize("name", COMMANDS)
def test_example_of_a_command_s_help_is_one_that_it_takes(name):
    command = importlib.import_module(f"launch.commands.{name.replace('-', '_')}")
    program, *words = shlex.split(command.EXAMPLE)
    assert program == "riskfuse"
    assert cli._parser().parse_args(words).command == name


def test_example_task_card_is_valid(tmp_path):
    text = (ROOT / "docs/own-task.md").read_text(encoding="utf-8")
    path = tmp_path / "card.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", text, flags=re.DOTALL).group(1), encoding="utf-8")
    card = load_task_card(path)
    assert card.stages == ("base", "danger_look")
    assert "bent uprights" in card.prompt("base").system


def test_both_readmes_show_the_same_commands():
    def commands(name: str) -> list[str]:
        blocks = re.findall(r"```bash\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
        lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks for line in block.splitlines()]
        return [line for line in lines if line]

    assert commands("README.md") == commands("README.zh.md")
