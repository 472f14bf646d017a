"""Heat maps in the report: those of the specialists with an amplifier, for the photos that can be read."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from amplified_models import amplify, preprocessing, shake
from PIL import Image

from dataset_builders.errors import ConfigError
from dataset_builders.manifest import ManifestRow, write_manifest
from launch.report.heat_maps import draw_heat_maps
from launch.report.run_files import RunFiles, StageFiles


def write_run(directory: Path, card, photo_dir: Path, models: dict[str, Path]) -> RunFiles:
    """A run whose stages are whole models, with two photos, of which the second one is damaged."""
    dataset = directory / "data"
    dataset.mkdir()
    Image.open(next(iter(sorted(photo_dir.iterdir())))).save(dataset / "a.png")
    (dataset / "b.png").write_bytes(b"no photo")
    rows = [ManifestRow(f"t/{name}", "t", name, n, "test", image=name) for n, name in enumerate(("a.png", "b.png"))]
    write_manifest(dataset, rows)
    (directory / "recipes").mkdir()
    for name, model in models.items():
        recipe = {"model_name_or_path": str(model), "finetuning_type": "full", "output_dir": str(model)}
        recipe |= {**preprocessing(), "stage": "sft"}
        (directory / f"recipes/{name}.yaml").write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    stages = tuple(StageFiles(name, None, None) for name in card.stages[:3])
    return RunFiles("run", directory, card, dataset, None, stages, {}, {})


@pytest.mark.slow
def test_amplified_specialist_marks_where_it_looks(tiny_model, card, photo_dir, tmp_path):
    amplified = amplify(tiny_model, tmp_path / "single-amplified")
    shake(amplified / "hazard_amplifier.safetensors")
    names = dict.fromkeys(card.stages[2:3], tiny_model) | {card.stages[1]: amplified}
    files = write_run(tmp_path, card, photo_dir, names)
    maps = draw_heat_maps(files, ["t/a.png", "t/b.png"])
    assert list(maps) == ["t/a.png"]
    ((stage, uri),) = maps["t/a.png"]
    assert stage == card.stages[1]
    head, _, content = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    drawn = Image.open(io.BytesIO(base64.b64decode(content)))
    assert max(drawn.size) <= 200


def test_run_without_an_amplifier_is_refused(tiny_model, card, photo_dir, tmp_path):
    files = write_run(tmp_path, card, photo_dir, {card.stages[1]: tiny_model})
    with pytest.raises(ConfigError, match="no specialist of it has a hazard amplifier"):
        draw_heat_maps(files, ["t/a.png"])
