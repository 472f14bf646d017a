"""The pipeline's YAML: what it accepts, what it refuses, and what it says then."""

from pathlib import Path

import pytest
import yaml

from dataset_builders.errors import ConfigError
from launch.pipeline.config import PipelineConfig, load_pipeline_config

MINIMAL = {
    "name": "trial",
    "task": "recipes/tasks/corridor.yaml",
    "data": "recipes/tiny/data.yaml",
    "base": {"recipe": "recipes/tiny/base.yaml"},
    "specialists": {"high_risk": {"recipe": "recipes/tiny/high_risk.yaml"}},
}


def test_directories_follow_the_name():
    config = PipelineConfig.model_validate(MINIMAL)
    assert (config.saves_dir, config.predictions_dir, config.runs_dir) == (
        Path("saves/trial"),
        Path("predictions/trial"),
        Path("runs/trial"),
    )


def test_directories_can_be_set():
    assert PipelineConfig.model_validate(MINIMAL | {"saves": "elsewhere"}).saves_dir == Path("elsewhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../up"}, "name"),
        ({"unheard": 1}, "unheard"),
        ({"base": {"recipe": "r.yaml", "overrides": {"output_dir": "x"}}}, "output_dir"),
        ({"base": {"recipe": "r.yaml", "splits": ["train", "val"]}}, "test"),
        ({"prepare": {"command": ["rm", "-rf"], "outputs": ["x"]}}, "riskfuse or python"),
        ({"inference": {"engine": "dask"}}, "engine"),
        ({"training": {"processes": 0}}, "processes"),
        ({"specialists": {}}, "specialists"),
        ({"specialist": {"recipe": "r.yaml"}}, r"specialist: write `specialists: \{NAME: "),
        ({"mining": {"options": []}}, r"mining: write `specialists: .*mining: …\}\}`"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | change), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_pipeline_config(path)


def test_all_mistakes_come_at_once(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | {"unheard": 1, "training": {"processes": 0}}), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_pipeline_config(path)
    assert "unheard" in str(caught.value)
    assert "training.processes" in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="no such pipeline"):
        load_pipeline_config(tmp_path / "absent.yaml")
