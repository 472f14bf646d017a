"""The task card's specialists: several with names of their own, and what is said about a card that breaks a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_task import CARD

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import TaskCard, load_task_card

SECOND = CARD["specialists"][0]
CUT = SECOND | {
    "name": "cut",
    "targets": ["hot", "warm"],
    "positive": {"id": "yes", "text": "是"},
    "negative": {"id": "no", "text": "否"},
    "prompt": {"system": "{rules}", "user": "At least warm? {answers}"},
}


def test_every_stage_has_its_own_prompt_and_answers() -> None:
    card = TaskCard.model_validate(CARD | {"specialists": [SECOND, CUT]})
    assert card.stages == ("base", "second", "cut")
    assert card.specialist("cut").targets == ("hot", "warm")
    assert [answer.id for answer in card.answers("cut")] == ["yes", "no"]
    assert [card.answer_for("cut", label).id for label in card.label_ids] == ["yes", "yes", "no"]
    assert [card.answer_for("second", label).id for label in card.label_ids] == ["present", "absent", "absent"]
    assert card.prompt("cut").user == "At least warm? 是、否"
    assert card.prompt("second").system == "Look twice."
    for ask in (card.answers, card.prompt, card.specialist):
        with pytest.raises(ConfigError, match="third"):
            ask("third")


@pytest.mark.parametrize(
    ("specialists", "words"),
    [
        ([], "at least 1 item"),
        ([SECOND, SECOND], "name used twice: second"),
        ([SECOND | {"name": "base"}], "choose another"),
        ([SECOND | {"name": "build"}], "choose another"),
        ([SECOND | {"name": "hot_val"}], "choose another"),
        ([SECOND, CUT | {"targets": ["hot", "lukewarm"]}], "unknown label id: lukewarm"),
        ([SECOND, CUT | {"targets": ["hot", "warm", "cold"]}], "the targets of cut hold every label"),
        ([SECOND, CUT | {"targets": []}], r"specialists\.1\.targets"),
        ([SECOND | {"negative": SECOND["positive"]}], "must differ"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, specialists: list[dict[str, Any]], words: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(CARD | {"specialists": specialists}), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_task_card(path)


@pytest.mark.parametrize("change", [{"text": "warm"}, {"aliases": ["2", "warm"]}])
def test_a_spelling_that_is_another_labels_id_is_refused(change: dict[str, Any]) -> None:
    hot, *others = CARD["ladder"]
    TaskCard.model_validate(CARD | {"ladder": [hot | {"text": "hot"}, *others]})  # its own id
    with pytest.raises(ValueError, match="label hot has 'warm' as text or alias, which is the id of label warm"):
        TaskCard.model_validate(CARD | {"ladder": [hot | change, *others]})


def test_a_card_of_one_specialist_is_told_how_to_write_it_now(tmp_path: Path) -> None:
    old = {key: value for key, value in CARD.items() if key != "specialists"} | {"specialist": SECOND}
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(old), encoding="utf-8")
    with pytest.raises(ConfigError, match="write `specialists:` and put `- ` before its first key"):
        load_task_card(path)
