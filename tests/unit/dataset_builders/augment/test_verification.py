"""Scores of copies, which ones are dropped, and what a verification leaves on disk."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dataset_builders.augment import training_set, verified_set
from dataset_builders.augment.augment import augment_dataset
from dataset_builders.augment.config import AugmentConfig
from dataset_builders.augment.judges import StageOneJudge
from dataset_builders.augment.verification import FLOOR, DropRule, agreement, is_copy, judge_copies
from dataset_builders.augment.verified_set import PENDING, verify_copies
from dataset_builders.build import build_dataset
from dataset_builders.build_config import BuildConfig
from dataset_builders.dataset_dir import is_complete
from dataset_builders.errors import DataError
from dataset_builders.files import file_sha256
from dataset_builders.manifest import DROPPED, ManifestRow, read_manifest
from dataset_builders.specialist import Choice, build_specialist
from dataset_builders.task_card import TaskCard

LABELS = ("hot", "warm", "cold")
probability = st.floats(0, 1)


def rows_of(*labels: str, copies: int = 1) -> list[ManifestRow]:
    originals = [ManifestRow(f"s/{i}", "s", str(i), i, "train", label) for i, label in enumerate(labels)]
    made = [
        ManifestRow(f"{row.sample_id}~{k:03d}", "s", row.name, row.position, "train", row.label, parent=row.sample_id)
        for row in originals
        for k in range(copies)
    ]
    return originals + made


@pytest.fixture(scope="module")
def augmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds what ``dataset`` built once, so that every test starts from a copy of it."""
    return tmp_path_factory.mktemp("augmented") / "set"


@pytest.fixture
def dataset(augmented: Path, make_config: Callable[..., BuildConfig], tmp_path: Path) -> Path:
    if not augmented.exists():
        config = make_config(balance=12)
        build_dataset(config)
        policy = {"task": config.task, "dataset": config.out, "out": augmented, "seed": 3, "workers": 1}
        augment_dataset(AugmentConfig.model_validate({**policy, "transforms": [{"transform": "HorizontalFlip"}]}))
    return Path(shutil.copytree(augmented, tmp_path / "set"))


class Opinions:
    """A judge that says what it is told: certain of every label, but for the probabilities that it is given."""

    def __init__(self, of_label: Mapping[str, float], name: str = "told") -> None:
        self._of_label, self._name = of_label, name
        self.asked = 0

    @property
    def identity(self) -> dict[str, Any]:
        return {"by": self._name, "opinions": dict(self._of_label)}

    def log_probabilities(self, dataset_dir: Path, rows: Sequence[ManifestRow]) -> dict[str, np.ndarray]:
        self.asked += 1
        found = {}
        for row in rows:
            p = self._of_label.get(row.sample_id, 0.98)
            found[row.sample_id] = np.log([p if label == row.label else (1 - p) / 2 for label in LABELS])
        return found


def copies_of(dataset: Path, label: str) -> list[str]:
    return [row.sample_id for row in read_manifest(dataset) if is_copy(row) and row.label == label]


def files_of(directory: Path) -> dict[str, str]:
    return {p.relative_to(directory).as_posix(): file_sha256(p) for p in directory.rglob("*") if p.is_file()}


def dropped_of(dataset: Path) -> set[str]:
    return {row.sample_id for row in read_manifest(dataset) if row.status == DROPPED}


@given(probability, probability, probability)
def test_score_rises_with_the_copy_and_falls_with_the_original(p: float, q: float, original: float) -> None:
    with np.errstate(divide="ignore"):
        logs = np.log([p, q, original])
    low, high = sorted(logs[:2])
    assert agreement(low, logs[2]) <= agreement(high, logs[2])
    assert agreement(logs[2], high) <= agreement(logs[2], low)


@given(probability, probability)
def test_copy_as_probable_as_its_original_survives_the_default_however_hard_the_photo_is(p: float, q: float) -> None:
    with np.errstate(divide="ignore"):
        original, copy = np.log(sorted((p, q)))
    score = float(agreement(copy, original))
    assert score >= 0.5 * np.log(FLOOR) - 1e-9 > -1.5
    assert np.log(FLOOR) - 0.5 * np.log(1 + FLOOR) - 1e-9 <= score <= np.log(1 + FLOOR) - 0.5 * np.log(FLOOR) + 1e-9


def test_lost_and_flipped_labels_score_below_every_sound_copy() -> None:
    rows = rows_of("hot", "warm")
    sure = {"s/0": [0.9, 0.08, 0.02], "s/1": [0.05, 0.9, 0.05]}
    lost = judge_copies(
        rows, _logs(sure | {"s/0~000": [0.05, 0.15, 0.8], "s/1~000": [0.05, 0.9, 0.05]}), LABELS, DropRule()
    )
    scores = {row.sample_id: row.verification_score for row in lost.rows if is_copy(row)}
    assert scores["s/0~000"] < -1.5 < scores["s/1~000"]
    # The photo is the original's, but the copy claims another label: its own label is asked of it.
    flipped = [*rows[:2], ManifestRow(**{**_fields(rows[2]), "label": "cold"}), rows[3]]
    verdicts = judge_copies(
        flipped, _logs(sure | {"s/0~000": sure["s/0"], "s/1~000": sure["s/1"]}), LABELS, DropRule(below=-1.5)
    )
    assert [item["sample_id"] for item in verdicts.dropped] == ["s/0~000"]


def _logs(probabilities: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    return {sample_id: np.log(values) for sample_id, values in probabilities.items()}


def _fields(row: ManifestRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ManifestRow.__dataclass_fields__}


@given(st.lists(st.floats(-3, 1.5), min_size=1, max_size=60), st.floats(0, 0.99))
def test_quantile_drops_at_most_its_share_and_never_tears_equal_scores_apart(scores: list[float], share: float) -> None:
    scores_N = np.array(scores)
    threshold = DropRule(quantile=share).threshold(scores_N)
    assert (scores_N < threshold).sum() <= share * len(scores)
    distinct = np.arange(len(scores), dtype=float)
    assert (distinct < DropRule(quantile=share).threshold(distinct)).sum() == int(share * len(scores))


def test_quantile_is_taken_within_each_label() -> None:
    rows = rows_of("hot", "cold", copies=10)
    logp = _logs({row.sample_id: [1 / 3] * 3 for row in rows[:2]})
    for number, row in enumerate(rows[2:]):
        # Every hot copy is worse than every cold one.
        p = 0.01 * (1 + number) if row.label == "hot" else 0.5 + 0.01 * number
        logp[row.sample_id] = np.log([p if label == row.label else (1 - p) / 2 for label in LABELS])
    verdicts = judge_copies(rows, logp, LABELS, DropRule(quantile=0.2))
    assert {label: counts["dropped"] for label, counts in verdicts.labels.items()} == {"hot": 2, "cold": 2}
    assert [item["sample_id"] for item in verdicts.dropped] == ["s/0~000", "s/0~001", "s/1~000", "s/1~001"]
    assert judge_copies(verdicts.rows, logp, LABELS, DropRule(quantile=0.2)) == verdicts


def test_rule_is_a_value_or_a_quantile() -> None:
    with pytest.raises(ValidationError, match="not both"):
        DropRule(below=0, quantile=0.1)
    with pytest.raises(ValidationError):
        DropRule(quantile=1.0)


def test_dropped_copies_leave_the_training_set_and_are_listed(dataset: Path, card: TaskCard) -> None:
    bad = copies_of(dataset, "hot")[:2]
    result = verify_copies(dataset, card, Opinions(dict.fromkeys(bad, 0.01)), DropRule(below=-1.5))
    verification = result.marker["verification"]
    assert [item["sample_id"] for item in verification["dropped"]] == sorted(bad)
    assert verification["labels"]["hot"] | {"mean_score": 0} == {
        "copies": 6, "dropped": 2, "threshold": -1.5, "mean_score": 0,
    }  # fmt: skip
    assert (verification["by"], verification["copies"], verification["kept"]) == ("told", 18, 16)
    rows = {row.sample_id: row for row in read_manifest(dataset)}
    for sample_id in bad:
        row = rows[sample_id]
        assert (row.status, row.usable, row.repeats) == (DROPPED, False, 0)
        assert "below -1.500" in row.reason
        assert (dataset / row.image).is_file()
    assert all(row.verification_score is not None for row in rows.values() if is_copy(row))
    assert all(row.verification_score is None for row in rows.values() if row.parent is None)
    examples = json.loads((dataset / "train.json").read_text(encoding="utf-8"))
    assert not {rows[sample_id].image for sample_id in bad} & {example["images"][0] for example in examples}
    assert set(Counter(example["messages"][-1]["content"] for example in examples).values()) == {12}
    assert is_complete(dataset, result.marker["fingerprint"])


def test_every_verification_starts_from_all_copies(dataset: Path, card: TaskCard) -> None:
    untouched = files_of(dataset)
    hot, cold = copies_of(dataset, "hot")[0], copies_of(dataset, "cold")[0]
    verify_copies(dataset, card, Opinions({hot: 0.01}), DropRule(below=-1.5))
    first = files_of(dataset)
    assert dropped_of(dataset) == {hot}
    verify_copies(dataset, card, Opinions({cold: 0.01}), DropRule(quantile=0.2))
    assert dropped_of(dataset) >= {cold}
    assert hot not in dropped_of(dataset)
    assert verify_copies(dataset, card, Opinions({hot: 0.01}), DropRule(below=-1.5)).fresh
    assert files_of(dataset) == first
    verify_copies(dataset, card, None, DropRule())
    assert dropped_of(dataset) == set()
    after = files_of(dataset)
    assert [name for name in after if after[name] != untouched[name]] == ["build.json"]


def test_same_verification_again_does_nothing_but_mends_what_was_changed(dataset: Path, card: TaskCard) -> None:
    judge = Opinions({copies_of(dataset, "warm")[0]: 0.01})
    verify_copies(dataset, card, judge, DropRule(below=-1.5))
    before = files_of(dataset)
    assert not verify_copies(dataset, card, judge, DropRule(below=-1.5)).fresh
    assert judge.asked == 1
    (dataset / "train.json").write_text("[]", encoding="utf-8")
    assert verify_copies(dataset, card, judge, DropRule(below=-1.5)).fresh
    assert files_of(dataset) == before


@pytest.mark.parametrize("place", ["write_sharegpt", "write_manifest", "audit_dataset", "write_json"])
def test_killed_verification_is_mended_by_the_same_or_another_one(
    dataset: Path, card: TaskCard, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    hot, cold = copies_of(dataset, "hot")[0], copies_of(dataset, "cold")[0]
    verify_copies(dataset, card, Opinions({cold: 0.01}), DropRule(below=-1.5))
    other = files_of(dataset)
    verify_copies(dataset, card, Opinions({hot: 0.01}), DropRule(below=-1.5))
    whole = files_of(dataset)
    verify_copies(dataset, card, None, DropRule())

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    for judge, expected in ((Opinions({hot: 0.01}), whole), (Opinions({cold: 0.01}), other)):
        verify_copies(dataset, card, None, DropRule())
        with monkeypatch.context() as patched:
            patched.setattr(training_set, place, kill)
            with pytest.raises(KeyboardInterrupt):
                verify_copies(dataset, card, Opinions({hot: 0.01}), DropRule(below=-1.5))
        assert not (dataset / "build.json").exists()
        assert (dataset / PENDING).exists()
        verify_copies(dataset, card, judge, DropRule(below=-1.5))
        assert files_of(dataset) == expected


def test_kill_after_the_marker_leaves_a_complete_data_set(
    dataset: Path, card: TaskCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = verified_set.write_training_set

    def write_and_die(*arguments: Any) -> None:
        written(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(verified_set, "write_training_set", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            verify_copies(dataset, card, Opinions({}), DropRule(below=-1.5))
    assert (dataset / PENDING).exists()
    assert not verify_copies(dataset, card, Opinions({}), DropRule(below=-1.5)).fresh
    assert not (dataset / PENDING).exists()


def test_specialist_set_of_other_copies_is_removed(dataset: Path, card: TaskCard, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "base", read_manifest(dataset), {})
    build_specialist(dataset, card, Choice("second", (predictions,)))
    verify_copies(dataset, card, Opinions({copies_of(dataset, "hot")[0]: 0.01}), DropRule(below=-1.5))
    assert not list(dataset.glob("second*.json"))
    build_specialist(dataset, card, Choice("second", (predictions,)))
    verify_copies(dataset, card, Opinions({copies_of(dataset, "hot")[0]: 0.01}), DropRule(below=-1.5))
    assert (dataset / "second.json").is_file()


def write_predictions(directory: Path, rows: Sequence[ManifestRow], of_label: Mapping[str, float]) -> Path:
    """Predictions as ``riskfuse predict`` writes them; an answer's probability is 0.9 of what the labels share."""
    directory.mkdir()
    table = []
    for row in rows:
        p = of_label.get(row.sample_id, 0.98)
        logp = np.log([0.9 * (p if label == row.label else (1 - p) / 2) for label in LABELS])
        columns = {f"logp_{label}": float(value) for label, value in zip(LABELS, logp, strict=True)}
        table.append({"sample_id": row.sample_id, **columns, "status": "ok"})
    pq.write_table(pa.Table.from_pylist(table), directory / "part-00000.parquet")
    (directory / "predictions.json").write_text("{}", encoding="utf-8")
    return directory


def test_first_stage_says_what_its_predictions_say(dataset: Path, card: TaskCard, tmp_path: Path) -> None:
    bad = copies_of(dataset, "cold")[3]
    rows = [row for row in read_manifest(dataset) if row.split == "train"]
    folds = [
        write_predictions(tmp_path / str(fold), [row for row in rows if row.fold == fold], {bad: 0.02})
        for fold in sorted({row.fold for row in rows})
    ]
    verification = verify_copies(dataset, card, StageOneJudge(folds, card), DropRule(below=-1.5)).marker["verification"]
    (item,) = verification["dropped"]
    assert item["sample_id"] == bad
    assert item["score"] == pytest.approx(np.log(0.02 + FLOOR) - 0.5 * np.log(0.98 + FLOOR))
    assert set(verification["judge"]["predictions"]) == {f"{number}/part-00000.parquet" for number in range(len(folds))}
    # Where the directories lie does not matter.
    moved = [Path(shutil.move(folder, folder.with_name(f"moved{folder.name}"))) for folder in folds]
    assert not verify_copies(dataset, card, StageOneJudge(moved, card), DropRule(below=-1.5)).fresh


def test_predictions_must_hold_every_copy_and_original_by_one_model(
    dataset: Path, card: TaskCard, tmp_path: Path
) -> None:
    rows = [row for row in read_manifest(dataset) if row.split == "train"]
    before = files_of(dataset)
    copy = next(row for row in rows if is_copy(row))
    for number, gone in enumerate((copy.sample_id, copy.parent)):
        some = write_predictions(tmp_path / f"some{number}", [row for row in rows if row.sample_id != gone], {})
        with pytest.raises(DataError, match=rf"(?s)… --predict-data .*1 finding.*{gone}: no prediction"):
            verify_copies(dataset, card, StageOneJudge([some], card), DropRule(below=-1.5))
    apart = [
        write_predictions(tmp_path / "originals", [row for row in rows if not is_copy(row)], {}),
        write_predictions(tmp_path / "copies", [row for row in rows if is_copy(row)], {}),
    ]
    with pytest.raises(DataError, match=r"(?s)by the same model.*18 findings"):
        verify_copies(dataset, card, StageOneJudge(apart, card), DropRule(below=-1.5))
    assert files_of(dataset) == before


def test_what_is_no_augmented_data_set_is_refused(
    dataset: Path, card: TaskCard, make_config: Callable[..., BuildConfig], tmp_path: Path
) -> None:
    config = make_config(out=tmp_path / "plain")
    build_dataset(config)
    with pytest.raises(DataError, match="no augmented copies"):
        verify_copies(config.out, card, None, DropRule())
    with pytest.raises(DataError, match="not complete"):
        verify_copies(tmp_path / "nothing", card, None, DropRule())
    with pytest.raises(DataError, match="give the card of the build"):
        verify_copies(dataset, card.model_copy(update={"task": "other"}), None, DropRule())
