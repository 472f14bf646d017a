"""`riskfuse report`, by hand and as the last step of a pipeline: where it writes, what it needs, what it refuses."""

from __future__ import annotations

import json
import shutil

import pytest
from report_data import ROOT

from dataset_builders.errors import ConfigError, DataError
from dataset_builders.files import write_json
from launch.cli import main
from launch.pipeline.config import PipelineConfig
from launch.pipeline.plan import plan_steps
from launch.pipeline.runner import run_steps
from launch.pipeline.step import Marker, write_marker
from launch.report import write_report
from launch.report.run_files import find_run


def test_command_writes_beside_the_run_and_takes_a_fusion_directory_without_a_pipeline(full_run, tmp_path, capsys):
    assert main(["report", str(full_run)]) == 0
    assert f"wrote {full_run}/report.html" in capsys.readouterr().out
    assert (full_run / "report.html").is_file()
    fusion, data = full_run / "fusion", full_run.parent / "data"
    command = ["report", str(fusion), "--out", str(tmp_path / "page.html")]
    assert main(command) == 2
    assert "say with --task and --data" in capsys.readouterr().err
    task = ROOT / "recipes/tasks/corridor.yaml"
    assert main([*command, "--task", str(task), "--data", str(data)]) == 0
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No training log of base was found" in html
    assert "No training log of objects was found" not in html  # a specialist of the card that was not fused
    assert main([*command, "--task", str(task), "--data", str(data), "--photos", "-1"]) == 2
    assert "--photos must not be negative" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "absent")]) == 2
    assert "no such directory" in capsys.readouterr().err
    assert main(["report", str(full_run), "--heat-maps", "--out", str(tmp_path / "maps.html")]) == 2
    assert "no specialist of it has a hazard amplifier" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "[1]", "{"])
def test_damaged_score_is_named(full_run, tmp_path, damage):
    run = tmp_path / "runs"
    shutil.copytree(full_run, run)
    (run / "fusion/score.json").write_text(damage, encoding="utf-8")
    with pytest.raises(DataError, match=r"score\.json"):
        write_report(find_run(run), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_config_of_another_version_is_named(full_run, tmp_path):
    run = tmp_path / "runs"
    shutil.copytree(full_run, run)
    (run / "config.json").write_text('{"pipeline": {"name": "x"}, "versions": {}}', encoding="utf-8")
    with pytest.raises(ConfigError, match="not a pipeline of this version"):
        find_run(run)


def test_last_step_of_a_pipeline_writes_the_report(full_run, tmp_path, monkeypatch, capsys):
    """The real step, after all others: complete the second time, made anew when another step was run again."""
    monkeypatch.chdir(ROOT)
    run = tmp_path / "runs"
    shutil.copytree(full_run, run, ignore=shutil.ignore_patterns("*.html"))
    pipeline = json.loads((run / "config.json").read_text(encoding="utf-8"))
    pipeline["pipeline"]["runs"] = str(run)
    write_json(run / "config.json", pipeline)
    *others, step = plan_steps(PipelineConfig.model_validate(pipeline["pipeline"]))
    for other in others:
        write_marker(run / f"steps/{other.name}.json", Marker(True, "k", {}, {}, {}, 8100.0))
    assert run_steps([step], run)
    html = (run / "report.html").read_text(encoding="utf-8")
    assert html.count("2 h 15 min") == len(others)
    capsys.readouterr()
    run_steps([step], run)
    assert "report: complete" in capsys.readouterr().out
    write_marker(run / "steps/fuse.json", Marker(True, "k", {}, {}, {}, 9.0))
    run_steps([step], run)
    assert (run / "report.html").read_text(encoding="utf-8").count("2 h 15 min") == len(others) - 1
