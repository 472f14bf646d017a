from pathlib import Path

import pytest
import yaml
from model_server import TINY_MODEL, ModelServer, serve

DIGITS = ("1", "2", "3", "4", "5")


@pytest.fixture(scope="session")
def model_server():
    return ModelServer()


@pytest.fixture(scope="session")
def endpoint(model_server):
    with serve(model_server) as url:
        yield url


@pytest.fixture
def write_card(card_path, tmp_path):
    """Writes the corridor's card with other texts to answer."""

    def write(texts: tuple[str, ...] = DIGITS) -> Path:
        content = yaml.safe_load(card_path.read_text(encoding="utf-8"))
        for label, text in zip([*content["ladder"], *content["off_ladder"]], texts, strict=True):
            label["text"] = text
        path = tmp_path / "card.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return path

    return write


@pytest.fixture
def settings(write_card, photo_dir, tmp_path) -> dict:
    """Flags of a run over twelve photos, without an engine."""
    recipe = {
        "model_name_or_path": TINY_MODEL,
        "template": "qwen2_vl",
        "stage": "sft",
        "finetuning_type": "lora",
        "image_min_pixels": 56 * 56,
        "image_max_pixels": 112 * 112,
        "output_dir": str(tmp_path / "saves"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    names = [path.name for path in sorted(photo_dir.iterdir())][:12]
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return {
        "recipe": tmp_path / "recipe.yaml",
        "task": write_card(),
        "stage": "base",
        "images": photo_dir,
        "photo_list": tmp_path / "list.txt",
        "shard_size": 5,
        "out": tmp_path / "predictions",
    }
