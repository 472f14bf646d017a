"""The specialist's set: which negatives are chosen, how often photos come, what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny_predictions import predict
from tiny_task import CARD

from dataset_builders.build import build_dataset
from dataset_builders.build_config import BuildConfig
from dataset_builders.errors import ConfigError, DataError
from dataset_builders.manifest import ManifestRow, photos_sha256, read_manifest, write_manifest
from dataset_builders.sharegpt import stage_of
from dataset_builders.specialist import Choice, build_specialist
from dataset_builders.task_card import TaskCard, load_task_card


@pytest.fixture
def dataset(make_config: Callable[..., BuildConfig]) -> Path:
    config = make_config()
    build_dataset(config)
    return config.out


def train_rows(dataset: Path, *labels: str) -> list[ManifestRow]:
    return [row for row in read_manifest(dataset) if row.split == "train" and row.label in labels]


def images(dataset: Path, name: str, answer: str) -> Counter[str]:
    examples = json.loads((dataset / name).read_text(encoding="utf-8"))
    return Counter(e["images"][0] for e in examples if e["messages"][-1]["content"] == answer)


def test_hard_negatives_are_the_most_probable_ones(dataset: Path, card: TaskCard, tmp_path: Path) -> None:
    negatives = train_rows(dataset, "warm", "cold")
    order = np.random.default_rng(0).permutation(len(negatives))
    probabilities = {negatives[i].sample_id: 0.9 - 0.05 * rank for rank, i in enumerate(order)}
    predictions = predict(tmp_path / "base", probabilities)
    result = build_specialist(dataset, card, Choice("second", (predictions,), seed=1))
    positives = train_rows(dataset, "hot")
    assert images(dataset, "second_train.json", "有") == {row.image: 1 for row in positives}
    chosen = images(dataset, "second_train.json", "无")
    assert (len(positives), len(negatives), len(chosen)) == (8, 16, 16)
    assert result.marker["train"]["hard_negatives"] == 11  # 0.7 of 16
    second = card.specialist("second").model_copy(update={"negatives_per_positive": 0.5})
    fewer = card.model_copy(update={"specialists": (second,)})
    counts = build_specialist(dataset, fewer, Choice("second", (predictions,), seed=1)).marker["train"]
    assert (counts["hard_negatives"], counts["random_negatives"], counts["rows"]) == (3, 1, 12)
    chosen = images(dataset, "second_train.json", "无")
    assert {negatives[i].image for i in order[:3]} < set(chosen)
    assert set(chosen.values()) == {1}


def test_validation_photos_are_those_of_stage_one(dataset: Path, card: TaskCard, tmp_path: Path) -> None:
    predictions = predict(tmp_path / "base", {row.sample_id: 0.5 for row in train_rows(dataset, "warm", "cold")})
    result = build_specialist(dataset, card, Choice("second", (predictions,)))
    val = json.loads((dataset / "val.json").read_text(encoding="utf-8"))
    second = json.loads((dataset / "second_val.json").read_text(encoding="utf-8"))
    assert [e["images"] for e in second] == [e["images"] for e in val]
    assert result.marker["val"] == {"positives": 2, "negatives": 4, "rows": 6}
    for example in second:
        assert [m["role"] for m in example["messages"]] == ["system", "user", "assistant"]
        assert example["messages"][1]["content"] == "<image>有、无?"


@pytest.mark.parametrize("rows", [24, 30, 100])
def test_rows_are_filled_by_even_repetition(dataset: Path, card: TaskCard, tmp_path: Path, rows: int) -> None:
    predictions = predict(tmp_path / "base", {row.sample_id: 0.5 for row in train_rows(dataset, "warm", "cold")})
    build_specialist(dataset, card, Choice("second", (predictions,), rows=rows))
    positives, negatives = (images(dataset, "second_train.json", text) for text in ("有", "无"))
    assert positives.total() == round(rows / 3)
    assert positives.total() + negatives.total() == rows
    for counter in (positives, negatives):
        assert max(counter.values()) - min(counter.values()) <= 1


def test_failed_and_missing_predictions_are_counted_not_mined(dataset: Path, card: TaskCard, tmp_path: Path) -> None:
    negatives = train_rows(dataset, "warm", "cold")
    probabilities = {row.sample_id: 0.99 for row in negatives[:6]}
    predictions = predict(tmp_path / "base", probabilities, failed=(negatives[0].sample_id, negatives[1].sample_id))
    counts = build_specialist(dataset, card, Choice("second", (predictions,))).marker["train"]
    assert counts["hard_negatives"] == 4
    assert counts["random_negatives"] == 12
    assert counts["negatives_without_prediction"] == 12


def test_same_inputs_give_the_same_bytes_and_are_not_done_twice(dataset: Path, card: TaskCard, tmp_path: Path) -> None:
    predictions = predict(tmp_path / "base", {row.sample_id: 0.5 for row in train_rows(dataset, "warm", "cold")})
    names = ("second_train.json", "second_val.json", "second.json")
    assert build_specialist(dataset, card, Choice("second", (predictions,), rows=30)).fresh
    before = [(dataset / name).read_bytes() for name in names]
    assert not build_specialist(dataset, card, Choice("second", (predictions,), rows=30)).fresh
    (dataset / names[0]).write_text("[]", encoding="utf-8")
    assert build_specialist(dataset, card, Choice("second", (predictions,), rows=30)).fresh
    assert [(dataset / name).read_bytes() for name in names] == before
    assert build_specialist(dataset, card, Choice("second", (predictions,), rows=30, seed=5)).fresh


def test_what_is_refused(dataset: Path, card: TaskCard, tmp_path: Path) -> None:
    negatives = train_rows(dataset, "warm", "cold")
    good = predict(tmp_path / "good", {row.sample_id: 0.5 for row in negatives})
    again = predict(tmp_path / "again", {negatives[0].sample_id: 0.5, "x": 0.1})
    with pytest.raises(DataError, match="a photo needs one prediction"):
        build_specialist(dataset, card, Choice("second", (good, again)))
    with pytest.raises(DataError, match=r"hold none of the 16 training photos"):
        build_specialist(dataset, card, Choice("second", (predict(tmp_path / "other", {"a": 0.5, "b": 0.5}),)))
    (good / "predictions.json").unlink()
    with pytest.raises(DataError, match="not complete"):
        build_specialist(dataset, card, Choice("second", (good,)))
    wrong = card.model_copy(update={"task": "other"})
    with pytest.raises(DataError, match="built for task 'tiny'"):
        build_specialist(dataset, wrong, Choice("second", (good,)))
    with pytest.raises(DataError, match=r"build\.json: no such file"):
        build_specialist(tmp_path / "none", card, Choice("second", (good,)))
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "predictions.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="no predictions"):
        build_specialist(dataset, card, Choice("second", (strange,)))
    pq.write_table(pa.table({"sample_id": ["a"], "status": ["ok"], "logp_x": [0.0]}), strange / "part-00000.parquet")
    with pytest.raises(DataError, match="lacks the columns logp_hot, logp_warm, logp_cold"):
        build_specialist(dataset, card, Choice("second", (strange,)))


def test_predictions_of_other_pictures_are_not_mined(dataset: Path, card: TaskCard, tmp_path: Path) -> None:
    rows = train_rows(dataset, "warm", "cold")
    predictions = predict(tmp_path / "base", {row.sample_id: 0.5 for row in rows})
    parts = sorted(predictions.glob("part-*.parquet"))
    ids = [one for part in parts for one in pq.read_table(part)["sample_id"].to_pylist()]
    sha256_of = {row.sample_id: row.sha256 for row in rows}
    marker = json.loads((predictions / "predictions.json").read_text(encoding="utf-8"))
    marker["photos_sha256"] = photos_sha256(pa.array([sha256_of[one] for one in ids], pa.string()))
    (predictions / "predictions.json").write_text(json.dumps(marker), encoding="utf-8")
    build_specialist(dataset, card, Choice("second", (predictions,), seed=1))
    manifest = [replace(row, sha256="0" * 64) if row.sample_id == ids[0] else row for row in read_manifest(dataset)]
    write_manifest(dataset, manifest)
    with pytest.raises(DataError, match="photos of the data set have changed since they were predicted"):
        build_specialist(dataset, card, Choice("second", (predictions,), seed=1))


def test_each_specialist_of_a_card_gets_its_own_set(make_config: Callable[..., BuildConfig], tmp_path: Path) -> None:
    """The second one is a cut through the ladder: hot or warm against cold."""
    cut = {**CARD["specialists"][0], "name": "cut", "targets": ["hot", "warm"], "prompt": {"system": "c", "user": "d"}}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({**CARD, "specialists": [*CARD["specialists"], cut]}), encoding="utf-8")
    config = make_config(task=path)
    build_dataset(config)
    card, dataset = load_task_card(path), config.out
    assert card.stages == ("base", "second", "cut")
    predictions = predict(tmp_path / "base", {row.sample_id: 0.5 for row in train_rows(dataset, "hot", "warm", "cold")})
    counts = {
        name: build_specialist(dataset, card, Choice(name, (predictions,))).marker["train"] for name in card.stages[1:]
    }
    assert (counts["second"]["positives"], counts["cut"]["positives"]) == (8, 16)
    assert images(dataset, "cut_train.json", "有").keys() == {r.image for r in train_rows(dataset, "hot", "warm")}
    registered = json.loads((dataset / "dataset_info.json").read_text(encoding="utf-8"))
    for name in card.stages[1:]:
        for split in ("train", "val"):
            assert registered[f"tiny_{name}_{split}"]["file_name"] == f"{name}_{split}.json"
            assert stage_of(f"tiny_{name}_{split}", card) == name
    assert stage_of("tiny_train", card) == "base"
    with pytest.raises(ConfigError, match=r"no specialist 'third'; the task card names second, cut"):
        build_specialist(dataset, card, Choice("third", (predictions,)))
