"""What a pipeline's steps depend on: what decides a result counts, what does not decide it does not."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from dataset_builders.errors import ConfigError, StepError
from launch.cli import _parser
from launch.pipeline.config import PipelineConfig, load_pipeline_config
from launch.pipeline.grade import grading_pipeline
from launch.pipeline.plan import plan_steps, resolve_recipe, write_recipes
from launch.pipeline.processes import alone_in
from launch.pipeline.record import write_record
from launch.pipeline.step import Step
from launch.recipe import load_recipe

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(monkeypatch) -> PipelineConfig:
    monkeypatch.chdir(ROOT)
    return load_pipeline_config("recipes/tiny/pipeline.yaml")


def changed(config: PipelineConfig, **parts: dict) -> PipelineConfig:
    values = config.model_dump()
    for part, change in parts.items():
        values[part] = {**values[part], **change}
    return PipelineConfig.model_validate(values)


def step(config: PipelineConfig, name: str) -> Step:
    return next(step for step in plan_steps(config) if step.name == name)


def test_order(config):
    assert [step.name for step in plan_steps(config)] == [
        "prepare",
        "build",
        "train_base",
        "predict_base",
        "set_high_risk",
        "train_high_risk",
        "predict_high_risk",
        "fuse",
        "report",
    ]


def test_each_step_reads_what_an_earlier_one_wrote(config):
    steps = plan_steps(config)
    written = [output for step in steps for output in step.outputs]
    for later in steps[1:]:
        sources = [*later.inputs, *later.listings]
        assert any(output == path or path in output.parents for path in sources for output in written), later.name


def test_report_is_made_anew_when_any_step_was_run_again(config):
    """Times of all steps stand in it, and their markers hold them."""
    names = [step.name for step in plan_steps(config)][:-1]
    report = step(config, "report")
    assert {Path(f"runs/demo/steps/{name}.json") for name in names} <= set(report.inputs)
    assert set(step(config, "fuse").outputs) <= set(report.inputs)
    assert report.outputs == report.owned == (Path("runs/demo/report.html"),)
    assert report.make_commands()[0].shown == "riskfuse report runs/demo"


def test_first_output_of_a_step_that_may_fail_in_part_is_the_commands_completion_marker(config):
    """It is removed before the command, which writes it last in any case."""
    config = PipelineConfig.model_validate({**config.model_dump(), "out_of_fold": True})
    steps = [step for step in plan_steps(config) if any(c.partial_success for c in step.make_commands())]
    assert {(step.name.partition("_")[0], step.outputs[0].name) for step in steps} == {
        ("predict", "predictions.json"),
        ("folds", "out_of_fold.json"),
    }


def test_number_of_workers_does_not_decide_a_prediction(config):
    other = changed(config, inference={"engine": "local", "workers": 1})
    assert step(config, "predict_base").settings == step(other, "predict_base").settings
    assert step(config, "predict_base").make_commands() != step(other, "predict_base").make_commands()


@pytest.mark.parametrize(
    ("key", "value", "decides"),
    [
        ("learning_rate", 1e-5, True),
        ("image_max_pixels", 784, True),
        ("logging_steps", 1, False),
        ("save_steps", 9, False),
    ],
)
def test_which_keys_of_a_recipe_decide_a_training(config, key, value, decides):
    other = changed(config, base={"overrides": {**config.base.overrides, key: value}})
    assert (step(config, "train_base").settings != step(other, "train_base").settings) == decides


def test_number_of_processes_decides_a_training(config):
    other = changed(config, training={"processes": 1})
    assert step(config, "train_base").settings != step(other, "train_base").settings


def test_a_training_says_how_many_photos_a_step_takes(config):
    for processes, photos in ((2, 16), (1, 8)):
        command = step(changed(config, training={"processes": processes}), "train_base").make_commands()[-1]
        assert command.shown.endswith(f"llamafactory-cli train runs/demo/recipes/base.yaml  # {photos} photos a step")


def test_resolved_recipe_is_what_llamafactory_would_merge(config, tmp_path):
    config = config.model_copy(update={"runs": tmp_path})
    write_recipes(config)
    written = load_recipe(tmp_path / "recipes" / "base.yaml").raw
    assert written == resolve_recipe(config, "base")
    own = dict(load_recipe(config.base.recipe).raw)
    differing = {key for key in written if written[key] != own.get(key)}
    assert differing == {*config.base.overrides, "dataset_dir", "output_dir"}
    assert written["output_dir"] == "saves/demo/base"


def test_pipelines_share_no_output():
    names = ("pipeline", "board", "tuning", "elpv")
    owned = [
        {path for step in plan_steps(load_pipeline_config(f"recipes/tiny/{name}.yaml")) for path in step.owned}
        for name in names
    ]
    assert sum(map(len, owned)) == len(set.union(*owned))


def test_task_of_data_and_pipeline_must_agree(config):
    other = config.model_copy(update={"task": Path("recipes/tasks/elpv.yaml")})
    with pytest.raises(ConfigError, match="give both the same"):
        plan_steps(other)


def with_cut(directory: Path) -> Path:
    """The corridor card with a second specialist: at least medium."""
    card = yaml.safe_load((ROOT / "recipes/tasks/corridor.yaml").read_text(encoding="utf-8"))
    cut = {**card["specialists"][0], "name": "grave", "targets": ["high", "medium"]}
    path = directory / "card.yaml"
    path.write_text(yaml.safe_dump(card | {"specialists": [*card["specialists"], cut]}), encoding="utf-8")
    return path


def test_specialists_come_in_the_card_s_order_and_those_not_listed_take_no_part(config, tmp_path):
    task, data = with_cut(tmp_path), tmp_path / "data.yaml"
    values = yaml.safe_load(config.data.read_text(encoding="utf-8")) | {"task": str(task)}
    data.write_text(yaml.safe_dump(values), encoding="utf-8")
    stage = config.specialists["high_risk"].model_dump()
    sets = {"dataset": "corridor_grave_train", "eval_dataset": "corridor_grave_val"}
    grave = stage | {"overrides": stage["overrides"] | sets}
    both = {"task": task, "data": data, "specialists": {"grave": grave, "high_risk": stage}}
    steps = plan_steps(PipelineConfig.model_validate(config.model_dump() | both))
    names = [f"{verb}_{name}" for name in ("high_risk", "grave") for verb in ("set", "train", "predict")]
    assert [step.name for step in steps][-8:] == [*names, "fuse", "report"]
    words = steps[-2].make_commands()[0].shown
    assert "high_risk=predictions/demo/high_risk" in words
    assert "grave=predictions/demo/grave" in words
    alone = PipelineConfig.model_validate(config.model_dump() | both | {"specialists": {"grave": grave}})
    assert "high_risk" not in " ".join(step.name for step in plan_steps(alone))
    strange = PipelineConfig.model_validate(config.model_dump() | {"specialists": {"third": stage}})
    with pytest.raises(ConfigError, match="no specialist 'third'"):
        plan_steps(strange)


@pytest.mark.parametrize(
    ("stage", "overrides", "said"),
    [
        (
            "base",
            {"dataset": "mine_train"},
            "base: recipes/tiny/base.yaml: dataset: expected corridor_train, got mine_",
        ),
        ("base", {"dataset": None}, "dataset: expected corridor_train, got none"),
        ("base", {"dataset": "corridor_train,corridor_high_risk_train"}, "dataset: expected corridor_train, got corr"),
        ("base", {"dataset": ["corridor_train", "corridor_test"]}, "got corridor_train, corridor_test"),
        ("high_risk", {"dataset": "corridor_train"}, "high_risk: .*expected corridor_high_risk_train, got corridor_tr"),
        ("high_risk", {"eval_dataset": "corridor_val"}, "eval_dataset: expected corridor_high_risk_val, got corridor_"),
    ],
)
def test_data_sets_that_the_pipeline_does_not_make_for_a_stage_are_said_before_the_first_step(
    config, stage, overrides, said
):
    old = getattr(config, stage, None) or config.specialists[stage]
    new = old.model_copy(update={"overrides": old.overrides | overrides})
    update = {"base": new} if stage == "base" else {"specialists": {stage: new}}
    with pytest.raises(ConfigError, match=said):
        plan_steps(config.model_copy(update=update))


def test_a_stage_may_train_on_an_earlier_one_s_set_too_but_not_out_of_fold(config):
    old = config.specialists["high_risk"]
    new = old.model_copy(update={"overrides": old.overrides | {"dataset": "corridor_high_risk_train,corridor_train"}})
    config = config.model_copy(update={"specialists": {"high_risk": new}})
    assert plan_steps(config)
    with pytest.raises(ConfigError, match="expected corridor_high_risk_train, got corridor_high_risk_train, corr"):
        plan_steps(config.model_copy(update={"out_of_fold": True}))


def test_out_of_fold_trains_all_other_folds_and_everything_is_learnt_from_what_was_held_out(config):
    config = PipelineConfig.model_validate(config.model_dump() | {"out_of_fold": True})
    steps = {step.name: step for step in plan_steps(config)}
    names = ["predict_base", "folds_base", "set_high_risk", "train_high_risk", "predict_high_risk", "folds_high_risk"]
    assert list(steps)[3:] == [*names, "fuse", "report"]
    shown = {name: step.make_commands()[0].shown for name, step in steps.items()}
    folds = [Path(f"predictions/demo/out_of_fold/base/fold-{fold}") for fold in (1, 2, 3, 4)]
    for name in ("folds_base", "folds_high_risk"):
        assert "--folds 1,2,3,4 " in shown[name]  # the main model is that of fold 0, the validation fold
        assert f"runs/demo/recipes/{name.removeprefix('folds_')}.yaml" in shown[name]
    mined = " ".join(["predictions/demo/base", *map(str, folds)])
    assert f"--predictions {mined} --rows 1200" in shown["set_high_risk"]
    assert f"--mining {mined} --rows 1200" in shown["folds_high_risk"]
    assert "--splits val,test" in shown["predict_base"]  # no opinion about photos that it was trained on
    assert "--out-of-fold predictions/demo/out_of_fold" in shown["fuse"]
    for step in (steps["set_high_risk"], steps["folds_high_risk"], steps["fuse"]):
        assert set(folds) <= set(step.inputs)
    written = [output for step in steps.values() for output in step.outputs]
    for later in list(steps.values())[1:]:
        assert any(o == path or path in o.parents for path in (*later.inputs, *later.listings) for o in written)


def test_a_stage_with_an_amplifier_is_trained_on_a_base_that_a_step_prepares(config, tmp_path):
    other = {"runs": tmp_path, "out_of_fold": True}
    values = PipelineConfig.model_validate(config.model_dump() | other).model_dump()
    values["specialists"]["high_risk"]["amplifier"] = {"options": ("--queries", "8")}
    amplified = PipelineConfig.model_validate(values)
    model = tmp_path / "models/high_risk"
    steps = {step.name: step for step in plan_steps(amplified)}
    assert list(steps)[5:8] == ["set_high_risk", "amplify_high_risk", "train_high_risk"]
    assert steps["amplify_high_risk"].make_commands()[0].shown == (
        f"riskfuse amplify models/tiny-qwen2_5-vl {model} --queries 8"
    )
    recipe = resolve_recipe(amplified, "high_risk")
    assert (recipe["model_name_or_path"], recipe["trust_remote_code"]) == (model.as_posix(), True)
    assert recipe["additional_target"] == "hazard_amplifier"
    assert "trust_remote_code" not in resolve_recipe(amplified, "base")
    before = {name: set(step.inputs) for name, step in steps.items()}
    assert all(model in before[name] for name in ("train_high_risk", "folds_high_risk"))
    model.mkdir(parents=True)  # what is there now must not look like another input
    assert {step.name: set(step.inputs) for step in plan_steps(amplified)} == before
    full = changed(amplified, specialists={})
    full.specialists["high_risk"].overrides["finetuning_type"] = "full"
    assert "additional_target" not in resolve_recipe(full, "high_risk")
    full.specialists["high_risk"].overrides["model_name_or_path"] = "Qwen/Qwen2.5-VL-3B-Instruct"
    with pytest.raises(ConfigError, match=r"Qwen2\.5-VL-3B-Instruct is no directory here, .*hf download"):
        plan_steps(full)
    (tmp_path / "config.json").write_text('{"hazard_amplifier": {}}', encoding="utf-8")
    full.specialists["high_risk"].overrides["model_name_or_path"] = str(tmp_path)
    with pytest.raises(ConfigError, match="has an amplifier already"):
        plan_steps(full)


def test_out_of_fold_decides_what_it_should(config):
    out_of_fold = PipelineConfig.model_validate(config.model_dump() | {"out_of_fold": True})
    other = changed(out_of_fold, inference={"engine": "local", "workers": 1})
    assert step(out_of_fold, "folds_base").settings == step(other, "folds_base").settings
    faster = changed(out_of_fold, base={"overrides": {**config.base.overrides, "learning_rate": 1e-5}})
    assert step(out_of_fold, "folds_base").settings != step(faster, "folds_base").settings
    assert step(out_of_fold, "train_base").settings == step(config, "train_base").settings
    with pytest.raises(ValidationError, match="only --batch-size and --shard-size"):
        changed(out_of_fold, inference={"options": ("--dtype", "float32")})


def test_with_a_policy_every_stage_is_trained_on_the_copies(config):
    changes = {"augment": Path("recipes/augment/corridor.yaml"), "out_of_fold": True}
    augmented = PipelineConfig.model_validate(config.model_dump() | changes)
    steps = {step.name: step for step in plan_steps(augmented)}
    assert list(steps)[:4] == ["prepare", "build", "augment", "train_base"]
    out = step(config, "build").owned[0]
    copies = out.with_name(f"{out.name}_augmented")
    assert f"--dataset {out} --out {copies}" in steps["augment"].make_commands()[0].shown
    assert steps["augment"].owned == (copies,)  # the build keeps its own directory
    assert resolve_recipe(augmented, "high_risk")["dataset_dir"] == copies.as_posix()
    for name in ("predict_base", "set_high_risk", "fuse"):
        assert copies / "build.json" in steps[name].inputs
    for name in ("folds_base", "folds_high_risk"):
        assert "--with-copies" in steps[name].make_commands()[0].shown
    strange = augmented.model_copy(update={"augment": Path("recipes/augment/elpv.yaml")})
    with pytest.raises(ConfigError, match="give both the same"):
        plan_steps(strange)


@pytest.mark.parametrize("out_of_fold", [False, True])
def test_every_command_of_a_plan_is_one_that_riskfuse_takes(config, out_of_fold):
    config = PipelineConfig.model_validate(config.model_dump() | {"out_of_fold": out_of_fold})
    commands = [command for step in plan_steps(config) for command in step.make_commands()]
    words = [list(command.argv[3:]) for command in commands if "launch.cli" in command.argv]
    assert len(words) == (11 if out_of_fold else 9)  # two trainings begin with a check; only they run another program
    for line in words:
        _parser().parse_args(line)  # leaves with an exit status at a word that it does not know


def test_a_finished_run_grades_later_photos_without_training(config, tmp_path):
    run = tmp_path / "runs/demo"
    write_recipes(config.model_copy(update={"runs": run}))
    write_record(config.model_copy(update={"runs": run}))
    (run / "fusion").mkdir()
    (run / "fusion/fusion.json").write_text("{}")
    out = tmp_path / "monday"
    grading = grading_pipeline(run, Path("photos"), out, None)
    steps = plan_steps(grading)
    assert [step.name for step in steps] == ["build", "predict_base", "predict_high_risk", "fuse", "report"]
    predict = steps[1]
    assert predict.make_commands()[0].argv.count("test") == 1
    assert Path("saves/demo/base/adapter_model.safetensors") in predict.inputs
    fuse = steps[3]
    assert f"--fitted {run / 'fusion'} --out {out / 'fusion'}" in fuse.make_commands()[0].shown
    assert run / "fusion/fusion.json" in fuse.inputs
    assert [path for step in steps for path in step.owned if not path.is_relative_to(out)] == []


def test_grading_needs_a_finished_run_and_another_directory(config, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"holds no config\.json; give the run directory"):
        grading_pipeline(run, Path("photos"), tmp_path / "out", None)
    write_record(config.model_copy(update={"runs": run}))
    with pytest.raises(ConfigError, match="finish the run first"):
        grading_pipeline(run, Path("photos"), tmp_path / "out", None)
    (run / "fusion").mkdir()
    (run / "fusion/fusion.json").write_text("{}")
    with pytest.raises(ConfigError, match="a directory of their own"):
        grading_pipeline(run, Path("photos"), run, None)
    other = tmp_path / "other"
    write_record(config.model_copy(update={"runs": other}))
    with pytest.raises(ConfigError, match="holds another run, which would be lost"):
        grading_pipeline(run, Path("photos"), other, None)
    assert not (other / "build.yaml").exists()
    write_record(grading_pipeline(run, Path("photos"), tmp_path / "monday", None))
    grading_pipeline(run, Path("photos"), tmp_path / "monday", None)  # goes on
    with alone_in(tmp_path / "monday"), pytest.raises(StepError, match="another riskfuse run works in"):
        grading_pipeline(run, Path("tuesday"), tmp_path / "monday", None)
    assert "tuesday" not in (tmp_path / "monday/build.yaml").read_text()
    with pytest.raises(ValidationError, match="augment and out_of_fold must be left out"):
        PipelineConfig.model_validate(
            config.model_dump() | {"fitted": run, "augment": "a.yaml", "out_of_fold": True, "decision": {}}
        )
