"""Answers of the counting task, and the rule of the graded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dataset_builders.drone_vehicle import VEHICLES, load_drone_vehicle_config, parse_counts, render_counts
from dataset_builders.drone_vehicle.config import DensityRule
from dataset_builders.drone_vehicle.counts import ANSWER_FORMAT
from dataset_builders.errors import ConfigError, DataError

ROOT = Path(__file__).parents[4]
RECIPE = "recipes/drone_vehicle.yaml"


@given(st.fixed_dictionaries({name: st.integers(0, 10**6) for name in VEHICLES}))
def test_answers_are_read_back_exactly(counts: dict[str, int]) -> None:
    assert parse_counts(render_counts(counts)) == counts


def test_answers_hold_every_class() -> None:
    assert render_counts({"car": 12, "freight car": 3}) == "car 12, truck 0, bus 0, van 0, freight car 3"
    assert parse_counts(" car 1, truck 0, bus 0, van 0, freight car 0\n")["car"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "car 1",
        ANSWER_FORMAT,
        "car 01, truck 0, bus 0, van 0, freight car 0",
        "car -1, truck 0, bus 0, van 0, freight car 0",
        "car \u0661, truck 0, bus 0, van 0, freight car 0",
        "truck 0, car 1, bus 0, van 0, freight car 0",
        "car 1, truck 0, bus 0, van 0, freight car 0.",
    ],
)
def test_other_answers_are_refused(answer: str) -> None:
    with pytest.raises(DataError, match="no counts of vehicles"):
        parse_counts(answer)


PCU = {"car": 1, "truck": 2, "bus": 2, "van": 1, "freight car": 3}


def test_density_is_cut_at_the_thresholds() -> None:
    rule = DensityRule.model_validate({"pcu": PCU, "at_least": {"much": 10, "some": 4, "little": 0}})
    assert [rule.label({"car": count}) for count in (0, 3, 4, 9, 10, 999)] == ["little"] * 2 + ["some"] * 2 + [
        "much"
    ] * 2
    assert rule.units({"car": 1, "truck": 1, "bus": 1, "van": 1, "freight car": 1}) == 9
    assert rule.label({}) == "little"


@pytest.mark.parametrize(
    "changes",
    [
        {"pcu": {"car": 1}},
        {"pcu": {**PCU, "tank": 9}},
        {"pcu": {**PCU, "car": 0}},
        {"at_least": {}},
        {"at_least": {"a": 5, "b": 1}},
        {"at_least": {"a": 1, "b": 5, "c": 0}},
        {"at_least": {"a": 5, "b": 5, "c": 0}},
    ],
)
def test_wrong_rules_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DensityRule.model_validate({"pcu": PCU, "at_least": {"a": 5, "b": 0}, **changes})


def test_shipped_config_fits_its_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    config, card = load_drone_vehicle_config(Path(RECIPE))
    assert ANSWER_FORMAT in config.counts_prompt.user
    # The card tells the model the rule in words: the numbers there are those of the rule.
    for label, bound in list(config.density.at_least.items())[:-1]:
        assert f"{bound:g}" in card.base.system
        assert f"{bound:g}" in next(each.rule for each in card.ladder if each.id == label)
    content = yaml.safe_load(Path(RECIPE).read_text(encoding="utf-8"))
    content["density"]["at_least"] = {"congested": 30, "sparse": 0}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"the ladder of .* is congested, dense, moderate, sparse"):
        load_drone_vehicle_config(path)
    path.write_text(yaml.safe_dump({**content, "out": content["tree"] + "/out"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="lie in each other"):
        load_drone_vehicle_config(path)
