from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dataset_builders.augment.compose import compose_for_label
from dataset_builders.augment.config import AugmentConfig, Transform, by_label, load_augment_config
from dataset_builders.errors import ConfigError
from dataset_builders.task_card import TaskCard

POLICIES = sorted(Path("recipes/augment").glob("*.yaml"))


def policy(**changes: Any) -> dict[str, Any]:
    return {
        "task": "card.yaml",
        "dataset": "data/x",
        "out": "data/y",
        "transforms": [{"transform": "HorizontalFlip", "p": 0.5}],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transforms": []}, "transforms"),
        ({"copies": 1.5}, "copies"),
        ({"strength": {"default": -1}}, "strength"),
        ({"out": "data/x"}, "two directories"),
        ({"out": "data/x/inside"}, "two directories"),
        ({"colour": 1}, "colour"),
        ({"transforms": [{"transform": "Blur", "p": 2}]}, "transforms"),
        ({"transforms": [{"transform": "Blur", "blur_limit": 3, "by_strength": {"blur_limit": [3, 5]}}]}, "keep one"),
        ({"transforms": [{"transform": "Blur", "by_strength": {"blur_limit": [3, [3, 5]]}}]}, "differ in shape"),
        ({"transforms": [{"one_of": [{"transform": "Blur"}]}]}, "one_of"),
    ],
)
def test_impossible_policies_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(policy(**changes)), encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_augment_config(path)
    assert str(path) in str(caught.value)


def test_parameters_grow_with_the_strength_and_whole_numbers_stay_whole() -> None:
    step = Transform.model_validate(
        {"transform": "X", "fixed": 1, "by_strength": {"a": [0.0, 2.0], "b": [2, 9], "c": [[[0.0]], [[1.0]]]}}
    )
    assert step.parameters_at(0.0) == {"fixed": 1, "a": 0.0, "b": 2, "c": ((0.0,),)}
    assert step.parameters_at(0.5) == {"fixed": 1, "a": 1.0, "b": 6, "c": ((0.5,),)}
    assert step.parameters_at(1.0) == {"fixed": 1, "a": 2.0, "b": 9, "c": ((1.0,),)}


@given(st.floats(0.0, 2.0), st.integers(0, 9))
def test_kernel_sizes_stay_odd_at_any_strength(strength: float, half: int) -> None:
    strong = 2 * half + 1
    step = Transform.model_validate({"transform": "X", "by_strength": {"a": [3, strong]}})
    size = step.parameters_at(strength)["a"]
    assert size % 2 == 1
    assert abs(size - (3 + (strong - 3) * strength)) <= 1


def test_a_label_without_a_value_gets_the_default() -> None:
    assert by_label(0.3, "hot", 1.0) == 0.3
    assert by_label({"hot": 0.1, "default": 0.2}, "hot", 1.0) == 0.1
    assert by_label({"hot": 0.1, "default": 0.2}, "cold", 1.0) == 0.2
    assert by_label({"hot": 0.1}, "cold", 1.0) == 1.0


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"transform": "NoSuchThing"}, r"transforms\.1: no transform 'NoSuchThing'"),
        ({"transform": "Compose"}, "no transform 'Compose'"),
        ({"transform": "GaussianBlur", "sigma": 3}, r"transforms\.1: GaussianBlur .*sigma"),
        ({"transform": "Perspective", "scale": "wide"}, r"transforms\.1: Perspective .*scale"),
        ({"one_of": [{"transform": "Blur"}, {"transform": "Nope"}]}, r"transforms\.1\.one_of: no transform 'Nope'"),
    ],
)
def test_a_wrong_transform_is_named_with_its_place(card: TaskCard, step: dict[str, Any], message: str) -> None:
    config = AugmentConfig.model_validate(policy(transforms=[{"transform": "HorizontalFlip"}, step]))
    with pytest.raises(ConfigError, match=message):
        compose_for_label(config, card, card.label_ids[0])


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
@pytest.mark.parametrize("strength", [0.0, 0.4, 0.5, 1.0, 1.5])
def test_shipped_policies_build_for_every_label_at_any_strength(path: Path, strength: float) -> None:
    from dataset_builders.task_card import load_task_card

    config = load_augment_config(path).with_changes({"strength": strength})
    card = load_task_card(config.task)
    for label_id in card.label_ids:
        compose_for_label(config, card, label_id)
