"""What TensorBoard is given, read back by TensorBoard itself; which trackers a recipe may name here."""

from __future__ import annotations

import pytest

from launch.cli import main
from launch.preflight.tracking import check_tracking, trackers_of
from launch.recipe import TrainingRecipe
from launch.tracking import write_scores
from launch.training import training_environment

HOME_OF_KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "SWANLAB_API_KEY", "SWANLAB_MODE", "NETRC")


def read_back(directory):
    """Value by tag of a directory's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return {tag: [point.tensor_proto.float_val[0] for point in events.Tensors(tag)] for tag in events.Tags()["tensors"]}


def scores(score):
    found = {"score": score, "error_rate": 0.25, "per_class": {"high": {"f1": 0.5}, "none": {"f1": 1.0}}}
    return {"levels": {"chance": found | {"score": 0.1}}, "systems": {"fused_rule": found}}


def test_a_run_for_each_system_and_a_chart_for_each_figure(tmp_path):
    reliability = {state: {"log_loss": 0.3, "brier": 0.2, "ece": 0.1} for state in ("before", "after")}
    review = {"reliability": {"b": reliability}, "coverage": {"b": {"coverage": 0.95}}, "queued": {"b": 7}}
    write_scores(tmp_path, {"validation": scores(5.0), "b": scores(4.0)}, review)
    write_scores(tmp_path, {"validation": scores(5.5), "b": scores(4.5)}, review)  # takes the place of the first
    found = read_back(tmp_path / "fused_rule")
    assert found["validation/score"] == [5.5]
    assert found["b/score"] == [4.5]
    assert found["b/error_rate"] == [0.25]
    assert found["b/f1_high"] == [0.5]
    assert read_back(tmp_path / "chance")["b/score"] == [pytest.approx(0.1)]
    assert read_back(tmp_path / "fused")["b/ece"] == [pytest.approx(0.1)]
    assert read_back(tmp_path / "fused_for_review")["b/photos_to_review"] == [7]


def test_evaluate_writes_each_submission(card, tmp_path):
    texts = [label.text for label in card.labels]
    for name, shift in (("truth", 0), ("good", 0), ("bad", 1)):
        rows = [f"{n}.jpg\t{texts[(n + shift) % len(texts)]}\n" for n in range(10)]
        (tmp_path / f"{name}.txt").write_text("".join(rows), encoding="utf-8")
    files = [str(tmp_path / f"{name}.txt") for name in ("good", "bad", "truth")]
    words = ["--task", "recipes/tasks/corridor.yaml", "--resamples", "10", "--json"]
    assert main(["evaluate", *files, *words, "--tensorboard", str(tmp_path / "board")]) == 0
    good = next((tmp_path / "board").glob("*good.txt"))
    assert read_back(good)["truth/error_rate"] == [0.0]
    assert read_back(next((tmp_path / "board").glob("*bad.txt")))["truth/error_rate"] == [1.0]


def test_curves_lie_in_the_output_directory_unless_the_user_says_where(monkeypatch):
    recipe = {"model_name_or_path": "hub/model", "output_dir": "saves/base"}
    assert training_environment(recipe, 1)["TENSORBOARD_LOGGING_DIR"] == "saves/base/tensorboard"
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "elsewhere")
    assert "TENSORBOARD_LOGGING_DIR" not in training_environment(recipe, 1)


@pytest.fixture
def check(tmp_path, monkeypatch):
    """A function that checks a recipe with these keys on a machine without any account."""
    for name in HOME_OF_KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return lambda **keys: [str(found) for found in check_tracking(TrainingRecipe(tmp_path / "recipe.yaml", keys))]


@pytest.mark.parametrize("value", [None, "none", [], ["none"], "tensorboard", ["tensorboard"]])
def test_tensorboard_and_nothing_need_nothing(check, value):
    assert check(report_to=value) == []
    assert trackers_of({"report_to": value}) in ([], ["tensorboard"])


@pytest.mark.parametrize("name", ["wandb", "swanlab", "mlflow"])
def test_absent_package_is_an_error(check, name):
    (found,) = check(report_to=["tensorboard", name])
    assert found.startswith("error")
    assert f"pip install {name}" in found
    assert "report_to: tensorboard" in found


def test_all_and_llamafactorys_own_key(check):
    assert check(report_to="all")[0].startswith("warning")
    assert "use_swanlab" in check(use_swanlab=True)[0]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Packages that can be found; nothing of them is imported."""
    for name in ("wandb", "swanlab", "mlflow"):
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "__init__.py").write_text("raise AssertionError", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "packages")


@pytest.mark.parametrize("name", ["wandb", "swanlab"])
def test_no_key_is_an_error_and_every_way_to_give_one_is_known(check, installed, tmp_path, monkeypatch, name):
    (found,) = check(report_to=name)
    assert found.startswith("error")
    assert f"{name} login" in found
    for variable, value in ((f"{name.upper()}_API_KEY", "k"), (f"{name.upper()}_MODE", "offline")):
        monkeypatch.setenv(variable, value)
        assert check(report_to=name) == []
        monkeypatch.delenv(variable)
    place = tmp_path / {"wandb": ".netrc", "swanlab": ".swanlab/.netrc"}[name]
    place.parent.mkdir(exist_ok=True)
    place.write_text("machine api.wandb.ai login user password key\n", encoding="utf-8")
    assert check(report_to=name) == []
    assert check(report_to="mlflow") == []  # writes to ./mlruns without an account


def test_netrc_of_another_server_is_no_key(check, installed, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine example.org login user password key\n", encoding="utf-8")
    assert len(check(report_to="wandb")) == 1
    monkeypatch.setenv("WANDB_BASE_URL", "https://example.org")
    assert check(report_to="wandb") == []


def test_swanlab_by_llamafactorys_own_keys(check, installed):
    assert len(check(use_swanlab=True)) == 1
    assert check(use_swanlab=True, swanlab_mode="local") == []
    assert check(use_swanlab=True, swanlab_api_key="k") == []
