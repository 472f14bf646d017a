"""``riskfuse plan``: exit codes, what it recommends, the command that it prints, and the profiles that it reads."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from dataset_builders.errors import ConfigError
from launch.cli import main
from launch.pipeline.config import load_pipeline_config
from launch.pipeline.plan import resolve_recipe
from launch.plan import Hardware, make_plan
from launch.plan.profiles import HARDWARE_KEYS, load_profile, plain_command
from launch.plan.report import render_plan
from launch.recipe import load_recipe

ROOT = Path(__file__).parents[4]
PROFILES = sorted(path.name for path in (ROOT / "recipes/profiles").glob("*.yaml"))
HARDWARE = {
    "1x24gb.yaml": Hardware(1, 24),
    "1x32gb.yaml": Hardware(1, 32),
    "8x80gb.yaml": Hardware(8, 80),
    "4x8x80gb.yaml": Hardware(8, 80, 4),
}
CARD = Path("recipes/tasks/corridor.yaml")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def write_recipe(tmp_path: Path, **changes) -> Path:
    keys = dict(load_recipe("recipes/base.yaml").raw) | {"dataset_dir": str(tmp_path / "none")} | changes
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in keys.items() if value is not None}), encoding="utf-8")
    return path


def plan_json(capsys, recipe: Path, *words: str) -> tuple[int, dict]:
    code = main(["plan", str(recipe), "--task", str(CARD), "--json", *words])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("recipe", ["recipes/base.yaml", "recipes/high_risk.yaml"])
@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_fits_the_gpus_that_it_is_named_after(recipe, name):
    plan = make_plan(Path(recipe), HARDWARE[name], task=CARD)
    assert next(item for item in plan.candidates if f"{item.name}.yaml" == name).fits
    assert plan.best is not None


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_the_best_for_its_gpus(name):
    plan = make_plan(Path("recipes/base.yaml"), HARDWARE[name], task=CARD)
    assert f"{plan.best.name}.yaml" == name


@pytest.mark.parametrize("recipe", ["recipes/base.yaml", "recipes/high_risk.yaml"])
def test_the_recipes_fit_the_gpu_that_their_headers_name(recipe):
    assert "one GPU of 32 GB" in Path(recipe).read_text(encoding="utf-8")
    assert make_plan(Path(recipe), Hardware(1, 32), task=CARD).candidates[0].fits


@pytest.mark.parametrize("recipe", ["recipes/base.yaml", "recipes/high_risk.yaml", "recipes/tiny/base.yaml"])
def test_every_candidate_trains_on_the_same_examples_of_a_step(recipe):
    for hardware in (*HARDWARE.values(), Hardware(2, 48), Hardware(3, 48)):
        plan = make_plan(Path(recipe), hardware, task=CARD)
        for item in plan.candidates:
            if item.settings is not None:
                assert item.passes * item.settings.batch * hardware.world == plan.global_batch
            else:
                assert "do not divide" in item.reason


@pytest.mark.parametrize("name", PROFILES)
def test_a_profiles_header_is_its_manual(name):
    path = ROOT / "recipes/profiles" / name
    header = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    hardware, profile = HARDWARE[name], load_profile(path)
    command = plain_command(Path("recipes/base.yaml"), profile, gpus=hardware.gpus, nodes=hardware.nodes)
    assert command in header
    assert "Must exist first" in header
    assert "Hardware:" in header
    for recipe in ("recipes/base.yaml", "recipes/high_risk.yaml"):
        plan = make_plan(Path(recipe), hardware, task=CARD)
        total = next(item for item in plan.candidates if f"{item.name}.yaml" == name).memory.total / 2**30
        assert f"{total:.1f}" in header, f"{recipe} takes {total:.1f} GiB"


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_keeps_the_recipes_batch(name):
    recipe, profile = load_recipe("recipes/base.yaml").raw, load_profile(ROOT / "recipes/profiles" / name)
    examples = profile["per_device_train_batch_size"] * profile["gradient_accumulation_steps"]
    assert examples * HARDWARE[name].world == (
        recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"]
    )
    assert Path(profile["deepspeed"]).is_file()
    assert set(profile) >= HARDWARE_KEYS - {"preprocessing_num_workers"}, "it leaves no choice to the recipe's hardware"


def test_printed_command_gives_the_keys_back():
    plan = make_plan(Path("recipes/base.yaml"), Hardware(2, 80, 2), task=CARD)
    words = shlex.split(plan.best.command)
    assert words[:4] == ["FORCE_TORCHRUN=1", "NPROC_PER_NODE=2", "NNODES=2", "NODE_RANK=0"]
    keys = dict(word.split("=", 1) for word in words[words.index("train") + 2 :])
    profile = load_profile(ROOT / f"recipes/profiles/{plan.best.name}.yaml")
    for key, value in profile.items():
        expected = plan.best.passes if key == "gradient_accumulation_steps" else value
        assert yaml.safe_load(keys[key]) == expected


def test_exit_codes(capsys, tmp_path):
    recipe = write_recipe(tmp_path)
    code, found = plan_json(capsys, recipe, "--gpus", "1", "--memory-gib", "24")
    assert (code, found["best"]) == (0, "1x24gb")
    code, found = plan_json(capsys, recipe, "--gpus", "1", "--memory-gib", "8")
    assert (code, found["best"]) == (1, None)
    assert all(item["reason"] for item in found["candidates"])
    assert main(["plan", str(tmp_path / "no.yaml"), "--gpus", "1", "--memory-gib", "8"]) == 2
    for wrong in (("0", "8"), ("1", "-3"), ("1", "nan"), ("one", "8")):
        with pytest.raises(SystemExit) as caught:
            main(["plan", str(recipe), "--gpus", wrong[0], "--memory-gib", wrong[1]])
        assert caught.value.code == 2


def test_keys_can_be_tried_out(capsys, tmp_path):
    recipe, where = write_recipe(tmp_path), ("--gpus", "8", "--memory-gib", "16")
    assert plan_json(capsys, recipe, *where)[1]["best"] is None
    code, found = plan_json(capsys, recipe, *where, "--set", "deepspeed=ds_configs/zero3.json")
    assert (code, found["best"]) == (0, "1x24gb")
    command = next(item["command"] for item in found["candidates"] if item["name"] == "1x24gb")
    assert "deepspeed=ds_configs/zero3.json" in command
    assert command.count("deepspeed=") == 1
    assert main(["plan", str(recipe), *where, "--set", "deepspeed"]) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"finetuning_type": "full"}, "finetuning_type"),
        ({"quantization_bit": 4}, "quantization_bit"),
        ({"enable_liger_kernel": True}, "enable_liger_kernel"),
        ({"lora_target": "nothing"}, "lora_target"),
        ({"deepspeed": "ds_configs/none.json"}, "does not exist"),
        ({"model_name_or_path": "some/model"}, "neither a directory"),
    ],
)
def test_what_is_not_modelled_is_refused_and_not_guessed(change, words, capsys, tmp_path):
    recipe = write_recipe(tmp_path, **change)
    assert main(["plan", str(recipe), "--gpus", "1", "--memory-gib", "80"]) == 2
    assert words in capsys.readouterr().err


def test_data_set_then_card_then_cutoff(tmp_path, card, photo_dir):
    from dataset_builders.sharegpt import conversation, write_dataset_info

    recipe = write_recipe(tmp_path)
    longest = make_plan(recipe, Hardware(1, 32))
    assert longest.tokens.total == 2048
    by_card = make_plan(recipe, Hardware(1, 32), task=CARD)
    assert by_card.tokens.total < longest.tokens.total
    data = tmp_path / "none"
    data.mkdir()
    rows = [conversation(card.prompt("base"), str(path), card.labels[0].text) for path in sorted(photo_dir.iterdir())]
    for split in ("train", "val"):
        (data / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    write_dataset_info(data, ["corridor_train", "corridor_val"], card)
    counted = make_plan(recipe, Hardware(1, 32))
    assert counted.tokens.photo < by_card.tokens.photo
    assert str(data) in counted.tokens.source


def test_report_names_the_largest_term_and_a_remedy(tmp_path):
    text = render_plan(make_plan(write_recipe(tmp_path), Hardware(1, 24), task=CARD))
    assert "Take 1x24gb" in text
    assert "8x80gb does not fit" in text
    assert "activations take" in text
    assert "gradient_checkpointing=true" in text
    small = render_plan(make_plan(write_recipe(tmp_path), Hardware(8, 12), task=CARD))
    assert "zero3.json" in small
    assert "None fits" in small


def test_packs_are_as_long_as_cutoff_len(tmp_path):
    plain = make_plan(write_recipe(tmp_path), Hardware(1, 80), task=CARD).candidates[0]
    packed = make_plan(write_recipe(tmp_path, neat_packing=True), Hardware(1, 80), task=CARD).candidates[0]
    assert packed.memory.logits > plain.memory.logits


def test_pipeline_takes_a_profile_and_a_stages_overrides_come_after_it(tmp_path):
    content = yaml.safe_load(Path("recipes/pipeline.yaml").read_text(encoding="utf-8"))
    content["training"] = {"processes": 8, "profile": "recipes/profiles/8x80gb.yaml"}
    content["specialists"]["high_risk"]["overrides"] = {"per_device_train_batch_size": 2}
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    config = load_pipeline_config(path)
    assert resolve_recipe(config, "base") | load_profile(config.training.profile) == resolve_recipe(config, "base")
    assert resolve_recipe(config, "high_risk")["per_device_train_batch_size"] == 2
    assert resolve_recipe(config, "high_risk")["gradient_accumulation_steps"] == 1


@pytest.mark.parametrize(("text", "words"), [("learning_rate: 1\n", "no hardware key"), ("- a\n", "key: value")])
def test_a_profile_holds_hardware_keys_only(text, words, tmp_path):
    path = tmp_path / "profile.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_profile(path)


def test_no_profiles(tmp_path):
    with pytest.raises(ConfigError, match="no profiles there"):
        make_plan(Path("recipes/base.yaml"), Hardware(1, 24), task=CARD, profiles=tmp_path)
