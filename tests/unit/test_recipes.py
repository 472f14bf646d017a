"""Every shipped YAML is read by the program that it is for, and every command in its header names files that exist."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dataset_builders.build_config import load_build_config
from dataset_builders.config_file import read_config
from dataset_builders.task_card import load_task_card
from launch.pipeline import load_pipeline_config, plan_steps
from launch.pipeline.plan import resolve_recipe, stages_of
from launch.plan.profiles import load_profile
from launch.recipe import load_recipe
from launch.stability.config import ParaphraseFile

ROOT = Path(__file__).parents[2]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.yaml"))


def kind(path: str) -> str:
    """What a file under recipes/ is, by its keys."""
    if path.startswith("recipes/profiles/"):
        return "profile"  # checked in tests/unit/launch/plan
    keys = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    for name, key in (
        ("card", "ladder"),
        ("build", "sources"),
        ("pipeline", "specialists"),
        ("merge", "export_dir"),
        ("paraphrases", "paraphrases"),
    ):
        if key in keys:
            return name
    return "training" if "stage" in keys else "scenes"


PROFILED = ("recipes/base.yaml", "recipes/high_risk.yaml")
KINDS = {path: kind(path) for path in FILES}


def of_kind(*kinds: str) -> list[str]:
    return [path for path in FILES if KINDS[path] in kinds]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def parser_errors(tmp_path_factory) -> dict[str, str]:
    script = Path(__file__).with_name("recipe_parser.py")
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"}
    files = {path: path for path in of_kind("training", "merge")}
    for number, (recipe, profile) in enumerate(itertools.product(PROFILED, of_kind("profile"))):
        merged = tmp_path_factory.getbasetemp() / f"profiled_{number}.yaml"
        keys = dict(load_recipe(ROOT / recipe).raw) | load_profile(ROOT / profile)
        merged.write_text(yaml.safe_dump(keys), encoding="utf-8")
        files[f"{recipe} {profile}"] = str(merged)
    command = [sys.executable, str(script), *files.values()]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    return {name: errors[path] for name, path in files.items()}


@pytest.mark.slow
@pytest.mark.parametrize("path", of_kind("training", "merge"))
def test_llamafactory_parses_it(path, parser_errors):
    assert parser_errors[path] == ""


@pytest.mark.slow
@pytest.mark.parametrize("path", of_kind("profile"))
@pytest.mark.parametrize("recipe", PROFILED)
def test_llamafactory_parses_a_recipe_with_a_profile(recipe, path, parser_errors):
    assert parser_errors[f"{recipe} {path}"] == ""


@pytest.mark.parametrize("path", of_kind("card"))
def test_task_cards_are_valid(path):
    load_task_card(path)


@pytest.mark.parametrize("path", of_kind("build"))
def test_build_configs_are_valid_and_name_a_task_card(path):
    load_task_card(load_build_config(path).task)


@pytest.mark.parametrize("path", of_kind("paraphrases"))
def test_paraphrases_ask_with_the_cards_rules_and_answers(path):
    for paraphrase in read_config(Path(path), ParaphraseFile, "file of paraphrases", "").paraphrases:
        text = paraphrase.system + paraphrase.user
        assert "{rules}" in text
        assert "{answers}" in text


@pytest.mark.parametrize("path", of_kind("pipeline"))
def test_pipelines_can_be_planned(path):
    config = load_pipeline_config(path)
    names = [step.name for step in plan_steps(config)]
    assert names[-2:] == ["fuse", "report"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", of_kind("pipeline"))
def test_pipelines_train_on_the_data_set_that_they_build(path):
    config = load_pipeline_config(path)
    card = load_task_card(config.task)
    for name in stages_of(config, card):
        recipe = resolve_recipe(config, name)
        prefix = card.task if name == "base" else f"{card.task}_{name}"
        assert recipe["dataset"] == f"{prefix}_train"
        assert recipe["eval_dataset"] == f"{prefix}_val"


@pytest.mark.parametrize("path", of_kind("training"))
def test_training_recipes_keep_the_rules(path):
    recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    assert recipe["eval_dataset"]
    assert "val_size" not in recipe, "val_size splits by rows: near-duplicates and repeats would be on both sides"
    assert not recipe.get("overwrite_output_dir"), "it would throw away what an interrupted run could resume from"
    assert recipe["template"] == "qwen2_vl"
    if path.startswith("recipes/tiny/"):
        assert "deepspeed" not in recipe, "LLaMA-Factory refuses it in one process, and the header promises that"
        assert not recipe.get("bf16")
    else:
        assert Path(recipe["deepspeed"]).is_file()


@pytest.mark.parametrize("path", of_kind("training"))
def test_global_batch_is_the_same_with_and_without_deepspeed(path):
    recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    for pipeline in map(load_pipeline_config, of_kind("pipeline")):
        for stage in (pipeline.base, *pipeline.specialists.values()):
            if stage.recipe.as_posix() == path and pipeline.training.processes:
                batch = stage.overrides.get("per_device_train_batch_size", recipe["per_device_train_batch_size"])
                assert batch * pipeline.training.processes == recipe["per_device_train_batch_size"]


@pytest.mark.parametrize("folder", ["recipes", "recipes/tiny"])
def test_amplified_recipes_differ_by_the_amplifier_alone(folder):
    plain, amplified = (
        yaml.safe_load(Path(f"{folder}/high_risk{suffix}.yaml").read_text(encoding="utf-8"))
        for suffix in ("", "_amplified")
    )
    assert amplified["model_name_or_path"].endswith("-amplified")
    switch = {"trust_remote_code": True, "additional_target": "hazard_amplifier"}
    names = {key: amplified[key] for key in ("model_name_or_path", "output_dir")}
    assert amplified == plain | switch | names


def header(path: str) -> list[str]:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    return [line[1:].strip() for line in lines[:end]]


@pytest.mark.parametrize("path", of_kind("training", "merge", "build", "pipeline"))
def test_header_is_a_manual(path):
    text = "\n".join(header(path))
    assert re.search("(Must exist|Needs) first", text)
    assert "Hardware" in text or KINDS[path] == "build"
    assert re.search(rf"(riskfuse|llamafactory-cli) \S+ {re.escape(path)}", text), "no command that uses this file"


@pytest.mark.parametrize("path", FILES)
def test_commands_in_the_header_name_existing_files(path):
    for line in header(path):
        for name in re.findall(r"\b(?:recipes|ds_configs)/[\w./-]+\.(?:yaml|json)", line):
            assert Path(name).is_file(), f"{path} names {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "ds_configs").glob("*.json")), ids=lambda path: path.name)
def test_deepspeed_files_leave_to_the_recipe_what_is_the_recipes(path):
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        assert config[key] == "auto"
    stage = config["zero_optimization"]["stage"]
    assert path.name.startswith(f"zero{stage}")
    assert ("offload_optimizer" in config["zero_optimization"]) == ("offload" in path.name)


def test_demo_scenes_are_a_part_of_the_board():
    demo, board = (yaml.safe_load(Path(f"recipes/tiny/{name}.yaml").read_text()) for name in ("scenes_demo", "scenes"))
    whole = {part["name"]: part for part in board["boards"]}
    for part in demo["boards"]:
        assert part | {"first": None} == whole[part["name"]] | {"first": None}
    assert {key: demo[key] for key in demo if key not in ("boards", "out")} == {
        key: board[key] for key in board if key not in ("boards", "out")
    }


def test_every_file_is_in_the_readme():
    readme = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    missing = [path for path in FILES if f"`{path.removeprefix('recipes/')}`" not in readme]
    assert not missing
