"""Preflight: a sound recipe has no findings; every planted mistake is found, and all of them at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dataset_builders.errors import ConfigError
from dataset_builders.sharegpt import conversation, write_dataset_info
from launch.cli import main
from launch.preflight import check_recipe
from launch.preflight.length import ImageRules, image_rules, image_tokens
from launch.recipe import TrainingRecipe, load_recipe
from launch.training import has_gpu

SIDE = 168


@pytest.fixture
def project(tmp_path, card, card_path, tiny_model):
    """A data set of four photos and a sound recipe; returns a function that checks a changed one."""
    data = tmp_path / "data"
    data.mkdir()
    for i in range(4):
        Image.new("RGB", (SIDE, SIDE), (i * 40, 90, 90)).save(data / f"{i}.png")
    names = {f"{card.task}_{split}": split for split in ("train", "val")}
    for split, photos in {"train": (0, 1, 2), "val": (3,)}.items():
        write_rows(data / f"{split}.json", [example(card, f"{i}.png") for i in photos])
    write_dataset_info(data, list(names), card)
    recipe = {
        "model_name_or_path": str(tiny_model),
        "template": "qwen2_vl",
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_target": "all",
        "image_min_pixels": 56 * 56,
        "image_max_pixels": SIDE * SIDE,
        "dataset_dir": str(data),
        "dataset": f"{card.task}_train",
        "eval_dataset": f"{card.task}_val",
        "cutoff_len": 1024,
        "output_dir": str(tmp_path / "saves"),
    }

    def check(task: Path | None = card_path, **changes):
        path = tmp_path / "recipe.yaml"
        content = {key: value for key, value in (recipe | changes).items() if value is not None}
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return check_recipe(path, task=task)

    check.data, check.path = data, tmp_path / "recipe.yaml"
    return check


def example(card, image: str) -> dict:
    return conversation(card.prompt("base"), image, card.answers("base")[1].text)


def write_rows(path: Path, rows: list) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def test_sound_recipe_has_no_findings(project):
    assert project() == []
    assert project(task=None) == []


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"learning_rat": 1}, "learning_rat", "learning_rate"),
        ({"eval_dataset": None, "val_size": 0.1}, "val_size", "near-duplicates"),
        ({"eval_dataset": None, "eval_strategy": "epoch"}, "eval_dataset", "without a data set"),
        ({"deepspeed": "ds_configs/none.json"}, "deepspeed", "does not exist"),
        ({"deepspeed": "ds_configs"}, "deepspeed", "cannot be read: Is a directory"),
        ({"packing": True}, "packing", "neat_packing"),
        ({"neat_packing": True, "cutoff_len": 1021}, "cutoff_len", "multiple of 8"),
        ({"additional_target": "hazard_amplifer"}, "additional_target", "hazard_amplifer"),
        ({"report_to": "wandb"}, "report_to", "pip install wandb"),
        ({"report_to": "wandbb"}, "report_to", "no tracker 'wandbb'"),
        ({"template": "qwen_vl2"}, "template", "no template"),
        ({"template": "qwen"}, "template", "no photos"),
        ({"template": "qwen3_vl"}, "template", "'qwen2_vl' for this model"),
        ({"dataset": "elsewhere"}, "dataset", "does not register"),
        ({"dataset": None}, "dataset", "no data set"),
        ({"eval_dataset": "corridor_train"}, "eval_dataset", "for training and for validation"),
        ({"dataset_dir": "nowhere"}, "dataset_dir", "does not exist"),
        ({"cutoff_len": 256}, "cutoff_len", "36 of the largest photo"),
        ({"model_name_or_path": "some/hub-model", "cutoff_len": 32}, "cutoff_len", "estimated"),
    ],
)
def test_planted_mistake_is_an_error(project, changes, where, words):
    errors = [finding for finding in project(**changes) if finding.level == "error"]
    assert any(where in finding.where and words in str(finding) for finding in errors), errors
    assert all(finding.remedy for finding in errors)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("cutoff_len", "abc", "a whole number"),
        ("cutoff_len", 7.5, "a whole number"),
        ("image_max_pixels", "768*768", "a whole number"),
        ("learning_rate", "fast", "a number"),
        ("num_train_epochs", True, "a number"),
        ("finetuning_type", "lorra", "one of lora, oft, freeze, full"),
        ("eval_strategy", "sometimes", "one of no, steps, epoch"),
        ("neat_packing", "no", "true or false"),  # a text, which LLaMA-Factory would take for true
        ("dataset", 5, "a text"),
        ("report_to", 5, "a text"),
    ],
)
def test_value_of_another_kind_is_an_error_and_no_traceback(project, key, value, expected):
    (found,) = project(**{key: value})
    assert found.level == "error"
    assert found.where.endswith(f": {key}")
    assert f"expected {expected}" in found.problem


def test_null_takes_a_default_away_but_switches_a_flag_off(project):
    project()
    text = project.path.read_text(encoding="utf-8").replace("cutoff_len: 1024", "cutoff_len: null")
    project.path.write_text(f"{text}load_best_model_at_end: null\n", encoding="utf-8")
    (found,) = check_recipe(project.path)
    assert str(found).startswith(f"error: {project.path}: cutoff_len: expected a value, or no such line, got None")


@pytest.mark.parametrize("learning_rate", ["1e-4", 1e-4, 1])
def test_numbers_may_be_written_in_any_way(project, learning_rate):
    assert project(learning_rate=learning_rate) == []


def test_recipes_that_train_nothing_or_less_than_all(project, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for changes, level, where in (
        ({"stage": "dpo"}, "error", "stage"),
        ({"do_train": None}, "error", "do_train"),
        ({"max_samples": 2}, "warning", "max_samples"),
        ({"model_name_or_path": str(tmp_path / "empty")}, "error", "model_name_or_path"),
        ({"resume_from_checkpoint": "saves/none"}, "error", "resume_from_checkpoint"),
        ({"output_dir": str(tmp_path / "file")}, "error", "output_dir"),
    ):
        assert [(f.level, f.where.split(": ")[-1]) for f in project(**changes) if f.where.endswith(where)] == [
            (level, where)
        ]


def test_all_findings_in_one_list_and_exit_code(project, capsys):
    project(learning_rat=1, packing=True, dataset="elsewhere")
    assert main(["check", str(project.path)]) == 1
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("learning_rat", "packing", "elsewhere", "3 errors"))
    assert main(["check", str(project.path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert [row["level"] for row in found["findings"]] == ["error"] * 3
    project()
    assert main(["check", str(project.path)]) == 0


def test_photo_that_cannot_be_read_is_a_finding_and_no_traceback(project):
    (project.data / "1.png").write_bytes(b"no photo")
    (found,) = project()
    assert "1 photos cannot be read" in found.problem
    assert "1.png: cannot identify image file" in found.problem


def test_amplifier_that_would_be_dropped_frozen_or_run_changed_code(project, tiny_model, tmp_path):
    from launch.amplifier import MODULE, AmplifierOptions
    from launch.amplifier.checkpoint import prepare_checkpoint

    model = tmp_path / "tiny-amplified"
    prepare_checkpoint(tiny_model, model, AmplifierOptions())
    sound = {"model_name_or_path": str(model), "trust_remote_code": True, "additional_target": MODULE}
    assert project(**sound) == []
    for changes, where in (
        ({"trust_remote_code": None}, "trust_remote_code"),
        ({"additional_target": None}, "additional_target"),
        ({"additional_target": "lm_head"}, "additional_target"),
        ({"finetuning_type": "freeze", "additional_target": None}, "finetuning_type"),
    ):
        assert any(f.level == "error" and where in f.where for f in project(**(sound | changes))), changes
    assert project(**(sound | {"additional_target": None, "finetuning_type": "full"})) == []
    with (model / "modeling_hazard_amplifier.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert any("differs" in str(finding) for finding in project(**sound))


def test_amplifier_whose_own_loss_waits_for_other_answers(project, tiny_model, tmp_path, card, card_path):
    from launch.amplifier import MODULE, AmplifierOptions
    from launch.amplifier.answer_tokens import deciding_tokens
    from launch.amplifier.checkpoint import prepare_checkpoint

    specialist = card.stages[1]
    sets = [f"{card.task}_{specialist}_{split}" for split in ("train", "val")]
    write_dataset_info(project.data, sets, card)
    for name in ("train", "val"):
        prompt, answer = card.prompt(specialist), card.answers(specialist)[0].text
        photos = ("0.png", "1.png") if name == "train" else ("3.png",)
        write_rows(
            project.data / f"{specialist}_{name}.json", [conversation(prompt, photo, answer) for photo in photos]
        )
    tokens = deciding_tokens(tiny_model, card, specialist)
    for name, changes in (("same", {}), ("other", {"positive_token": tokens["positive_token"] + 1})):
        prepare_checkpoint(tiny_model, tmp_path / name, AmplifierOptions(auxiliary_weight=0.3, **(tokens | changes)))
    recipe = {"trust_remote_code": True, "additional_target": MODULE, "dataset": sets[0], "eval_dataset": sets[1]}
    assert project(**recipe, model_name_or_path=str(tmp_path / "same")) == []
    (found,) = project(**recipe, model_name_or_path=str(tmp_path / "other"))
    assert "for other answers than stage" in found.problem


def test_model_that_was_half_copied_is_named(project, tiny_model, tmp_path):
    model = tmp_path / "half"
    shutil.copytree(tiny_model, model)
    (model / "config.json").write_text('{"model_type": "qwen2', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"half/config\.json: no JSON .* perhaps half of a copy"):
        project(model_name_or_path=str(model))


def test_malformed_conversations_and_missing_photos(project, card):
    good, no_answer, two_photos, missing = (example(card, image) for image in ("0.png", "1.png", "2.png", "none.png"))
    no_answer["messages"].pop()
    two_photos["images"] *= 2
    write_rows(project.data / "train.json", [good, no_answer, two_photos, {"messages": []}, missing])
    found = [str(finding) for finding in project()]
    assert any("3 are malformed" in text and "row 1" in text and "row 3" in text for text in found)
    assert any("1 photos do not exist" in text and "none.png" in text for text in found)


def test_no_json(project):
    (project.data / "val.json").write_text("[{]", encoding="utf-8")
    assert any("no JSON" in str(finding) for finding in project())


def test_prompt_of_the_data_set_is_the_cards(project, card):
    row = example(card, "0.png")
    row["messages"][0]["content"] += "!"
    row["messages"][2]["content"] = "?"
    write_rows(project.data / "train.json", [row])
    found = [str(finding) for finding in project()]
    assert any("system text differs" in text for text in found)
    assert any("answers differs" in text for text in found)
    assert project(task=None) == []


def test_pixel_budget_over_the_card_and_the_checkpoint_is_a_warning(project, card):
    findings = project(image_max_pixels=card.pixel_budget.max_pixels + 1)
    assert {finding.level for finding in findings} == {"warning"}
    assert len(findings) == 2


def test_finished_run_is_not_trained_again(project, tmp_path):
    saves = tmp_path / "saves"
    checkpoint = saves / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    assert [finding.level for finding in project()] == ["warning"]
    assert any("not resumed" in str(finding) for finding in project(overwrite_output_dir=True))
    (saves / "all_results.json").write_text("{}")
    (saves / "trainer_state.json").write_text('{"global_step": 10, "max_steps": 10}')
    (finding,) = project()
    assert finding.level == "error"
    assert "finished run" in finding.problem


def test_bf16_without_a_gpu_is_a_warning(project, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    has_gpu.cache_clear()
    (finding,) = project(bf16=True)
    has_gpu.cache_clear()
    assert finding.level == "warning"
    assert "no GPU" in finding.problem


def test_predictions_agree_with_the_recipe(project, tmp_path):
    project()
    used = load_recipe(project.path).preprocessing
    marker = tmp_path / "predictions" / "predictions.json"
    marker.parent.mkdir()
    marker.write_text(json.dumps({"components": {"preprocessing": used}}))
    assert check_recipe(project.path, predictions=marker.parent) == []
    marker.write_text(json.dumps({"components": {"preprocessing": used | {"image_max_pixels": 784}}}))
    (finding,) = check_recipe(project.path, predictions=marker.parent)
    assert "image_max_pixels" in finding.where


@pytest.mark.parametrize("size", [(168, 168), (640, 480), (1000, 30), (20, 20), (3000, 10), (61, 247), (99, 101)])
@pytest.mark.parametrize("limit", [SIDE * SIDE, 100 * 100])
def test_image_tokens_are_those_of_the_processor(tiny_model, size, limit):
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import get_infer_args
    from llamafactory.model import load_tokenizer

    raw = {"model_name_or_path": str(tiny_model), "template": "qwen2_vl", "image_max_pixels": limit}
    model_args, data_args, _, _ = get_infer_args(dict(raw))
    module = load_tokenizer(model_args)
    plugin = get_template_and_fix_tokenizer(module["tokenizer"], data_args).mm_plugin
    grid = plugin.get_mm_inputs([Image.new("RGB", size)], [], [], [1], [], [], [], module["processor"])[
        "image_grid_thw"
    ]
    rules = image_rules(TrainingRecipe(Path("recipe.yaml"), raw))
    assert rules == ImageRules(1024, limit, 56 * 56, 168 * 168, 28)
    assert image_tokens(*size, rules) == int(grid.prod()) // 4
