"""docs/your-own-data.md as a newcomer types it: its four files, some photos, and the cheap commands."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dataset_builders.files import write_json
from dataset_builders.manifest import read_manifest
from dataset_builders.task_card import load_task_card
from launch.cli import main
from launch.pipeline import load_pipeline_config
from launch.pipeline.plan import resolve_recipe
from launch.predict.parts import PartHeader, ShardScores, part_path, write_part
from launch.predict.rows import PhotoRow, Shard
from launch.review.store import Decision, DecisionStore

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/your-own-data.md"
FILES = ("card", "data", "pipeline", "gpu", "data2", "pipeline2")
LABELS = ("danger", "watch", "fine")


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """A directory with the page's files, 45 training and 6 test photos, and the repository's own files."""
    text = PAGE.read_text(encoding="utf-8")
    files = re.findall(r"^`(my/[a-z0-9]+\.yaml)`[,:] .*?```yaml\n(.*?)```", text, flags=re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == [f"my/{name}.yaml" for name in FILES]
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


def test_folders_by_label_in_place_of_lists(typed, capsys):
    for number in range(51):
        folder = Path("my/folders", LABELS[number % 3]) if number < 45 else Path("my/new")
        folder.mkdir(parents=True, exist_ok=True)
        Path(f"my/photos/{number}.jpg").rename(folder / f"{number}.jpg")
    Path("my/folders").rename("my/photos/all")  # the page has them in my/photos itself
    sources = re.search(r"^sources:\n(  - .*image_folder.*\n)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE).group()
    lists = Path("my/data.yaml").read_text(encoding="utf-8")
    folders = sources.replace("my/photos}", "my/photos/all}")
    Path("my/data.yaml").write_text(lists[: lists.index("sources:")] + folders, encoding="utf-8")
    assert main(["build", "my/data.yaml", "--workers", "1"]) == 0
    assert "quarantined" not in capsys.readouterr().out
    rows = read_manifest(Path("data/shelves"))
    assert [row.label for row in rows if row.split == "test"] == [None] * 6
    assert sum(row.label is not None for row in rows) == 45


def test_reviewed_photos_are_trained_on(typed, capsys):
    main(["build", "my/data.yaml", "--workers", "1"])
    for stage in ("base", "danger_look"):
        guess(stage)
    words = [
        "--task",
        "my/card.yaml",
        "--base",
        "predictions/base",
        "--specialist",
        "danger_look=predictions/danger_look",
    ]
    assert main(["fuse", "data/shelves", *words, "--resamples", "20", "--out", "runs/shelves/fusion"]) == 0
    decision = {"note": "", "decided": "fine", "at": "2026-01-02T03:04:05+00:00"}
    for name, label in (("46.jpg", "danger"), ("50.jpg", "watch")):
        DecisionStore(Path("runs/shelves/review")).append(
            "anna", Decision(sample_id=f"test/{name}", label=label, **decision)
        )
    files = ["--export", "my/reviewed.txt", "--rest", "my/rest.txt"]
    assert main(["review", "runs/shelves", "--task", "my/card.yaml", "--data", "data/shelves", *files]) == 0
    assert Path("my/reviewed.txt").read_text(encoding="utf-8") == "46.jpg\tdanger\n50.jpg\twatch\n"
    assert Path("my/rest.txt").read_text(encoding="utf-8") == "45.jpg\n47.jpg\n48.jpg\n49.jpg\n"
    capsys.readouterr()
    assert main(["build", "my/data2.yaml", "--workers", "1"]) == 0
    assert "quarantined" not in capsys.readouterr().out
    of_source = Counter(row.source for row in read_manifest(Path("data/shelves2")) if row.split != "test")
    assert of_source == {"train": 45, "reviewed": 2}
    assert main(["run", "my/pipeline2.yaml", "--dry-run"]) == 0
    assert "train_danger_look: to do" in capsys.readouterr().out


def guess(stage):
    """Predictions of a stage without a model."""
    card = load_task_card("my/card.yaml")
    rows = [row for row in read_manifest(Path("data/shelves")) if row.split != "train"]
    answers = tuple(answer.id for answer in card.answers(stage))
    logits = np.random.default_rng(0).normal(size=(len(rows), len(answers)))
    scores = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    shard = Shard(0, tuple(PhotoRow(row.sample_id, row.image, row.sha256) for row in rows))
    out = Path("predictions", stage)
    write_part(
        part_path(out, 0),
        shard,
        ShardScores(scores, np.zeros(len(rows)), ("",) * len(rows)),
        PartHeader(stage, {}, stage, answers),
    )
    write_json(out / "predictions.json", {"fingerprint": stage, "shards": 1, "rows": len(rows), "failed": 0})
    if stage != "base":
        write_json(Path(f"data/shelves/{stage}.json"), {"train": {"positive_rows": 12, "negative_rows": 24}})


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
