"""What the documents promise: files and commands that exist, an example that is valid."""

import re
from pathlib import Path

import pytest

from dataset_builders.task_card import load_task_card
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
