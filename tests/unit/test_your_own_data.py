"""docs/your-own-data.md as a newcomer types it: its four files, some photos, and the cheap commands."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from launch.cli import main
from launch.pipeline import load_pipeline_config
from launch.pipeline.plan import resolve_recipe

ROOT = Path(__file__).parents[2]
LABELS = ("danger", "watch", "fine")


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """A directory with the page's files, 45 training and 6 test photos, and the repository's own files."""
    text = (ROOT / "docs/your-own-data.md").read_text(encoding="utf-8")
    files = re.findall(r"^`(my/[a-z]+\.yaml)`, .*?```yaml\n(.*?)```", text, flags=re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == ["my/card.yaml", "my/data.yaml", "my/pipeline.yaml", "my/gpu.yaml"]
    (tmp_path / "my/photos").mkdir(parents=True)
    for name, content in files:
        (tmp_path / name).write_text(content, encoding="utf-8")
    for number in range(51):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((96, 96)).save(tmp_path / f"my/photos/{number}.jpg")
    rows = [f"{number}.jpg\t{LABELS[number % 3]}\n" for number in range(45)]
    (tmp_path / "my/train.txt").write_text("".join(rows), encoding="utf-8")
    (tmp_path / "my/test.txt").write_text("".join(f"{number}.jpg\n" for number in range(45, 51)), encoding="utf-8")
    for name in ("recipes", "ds_configs", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_build_and_dry_runs(typed, capsys):
    assert main(["build", "my/data.yaml", "--workers", "1"]) == 0
    assert "quarantined" not in capsys.readouterr().out
    for pipeline in ("my/pipeline.yaml", "my/gpu.yaml"):
        assert main(["run", pipeline, "--dry-run"]) == 0
        assert "train_danger_look: to do" in capsys.readouterr().out


def test_mistakes_that_the_page_names(typed, capsys):
    rows = Path("my/train.txt").read_text(encoding="utf-8")
    Path("my/train.txt").write_text(rows.replace("fine", "okay", 1), encoding="utf-8")
    assert main(["build", "my/data.yaml"]) == 2
    assert "okay" in capsys.readouterr().err
    Path("my/train.txt").write_text("".join(rows.splitlines(keepends=True)[:6]), encoding="utf-8")
    assert main(["build", "my/data.yaml"]) == 2
    assert "lower `folds` or add photos" in capsys.readouterr().err


@pytest.mark.slow
def test_recipe_of_the_pipeline_is_sound(typed, capsys):
    main(["build", "my/data.yaml", "--workers", "1"])
    recipe = resolve_recipe(load_pipeline_config("my/pipeline.yaml"), "base")
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    capsys.readouterr()
    assert main(["check", "recipe.yaml", "--task", "my/card.yaml"]) == 0
    assert "0 errors" in capsys.readouterr().out
