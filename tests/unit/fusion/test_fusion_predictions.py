import json

import numpy as np
import pyarrow as pa
import pytest
from fusion_data import make_card, write_dataset, write_predictions

from dataset_builders.errors import DataError, FingerprintMismatch
from dataset_builders.manifest import QUARANTINED, ManifestRow
from fusion.predictions import read_predictions
from fusion.rows import UNLABELLED, read_rows

ANSWERS = ("red", "amber")
IDS = [f"s/{n}" for n in range(5)]
LOGPS = np.log(np.array([[0.5, 0.4], [0.1, 0.2], [0.9, 0.05], [0.3, 0.3], [0.6, 0.2]]))


def test_reads_all_shards_in_order_with_failures_as_rows(tmp_path):
    errors = ["", "truncated", "", "", ""]
    found = read_predictions(write_predictions(tmp_path, IDS, LOGPS, ANSWERS, errors=errors, shard=2), ANSWERS)
    assert found.sample_ids.to_pylist() == IDS
    assert found.failed_N.tolist() == [False, True, False, False, False]
    assert found.errors.to_pylist() == errors
    assert np.isnan(found.logps_NK[1]).all()
    np.testing.assert_allclose(found.logps_NK[[0, 2, 3, 4]], LOGPS[[0, 2, 3, 4]])
    assert found.fingerprint == "f00d"
    assert found.positions(pa.array(["s/3", "other", "s/0"])).tolist() == [3, -1, 0]


def test_columns_follow_the_card_not_the_file(tmp_path):
    write_predictions(tmp_path, IDS, LOGPS[:, ::-1], ANSWERS[::-1])
    np.testing.assert_allclose(read_predictions(tmp_path, ANSWERS).logps_NK, LOGPS)


def test_a_row_without_any_probability_is_no_answer(tmp_path):
    logps = LOGPS.copy()
    logps[2] = -np.inf
    logps[3, 0] = -np.inf
    found = read_predictions(write_predictions(tmp_path, IDS, logps, ANSWERS), ANSWERS)
    assert found.failed_N.tolist() == [False, False, True, False, False]
    assert found.errors[2].as_py()


def _without_marker(directory):
    (directory / "predictions.json").unlink()


def _without_shard(directory):
    (directory / "part-00001.parquet").unlink()


def _with_fewer_rows(directory):
    marker = json.loads((directory / "predictions.json").read_text())
    (directory / "predictions.json").write_text(json.dumps({**marker, "rows": 99}))


def _with_garbage(directory):
    (directory / "part-00001.parquet").write_bytes(b"no parquet")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without_marker, "not complete"),
        (_without_shard, "counts 3 shards, found 2"),
        (_with_fewer_rows, "counts 99 rows"),
        (_with_garbage, "part-00001.parquet: not a Parquet file"),
    ],
)
def test_incomplete_runs_are_refused(tmp_path, spoil, words):
    write_predictions(tmp_path, IDS, LOGPS, ANSWERS, shard=2)
    spoil(tmp_path)
    with pytest.raises(DataError, match=words):
        read_predictions(tmp_path, ANSWERS)


def test_mixed_runs_are_refused(tmp_path):
    write_predictions(tmp_path, IDS, LOGPS, ANSWERS, shard=2, fingerprints=("one", "other"))
    with pytest.raises(FingerprintMismatch, match=r"part-00001.parquet: other"):
        read_predictions(tmp_path, ANSWERS)


def test_repeated_photos_wrong_answers_and_impossible_values_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"occur twice.*s/1"):
        read_predictions(write_predictions(tmp_path / "a", ["s/1", "s/2", "s/1"], LOGPS[:3], ANSWERS), ANSWERS)
    with pytest.raises(DataError, match="answers red, amber, but the task card's stage has yes, no"):
        read_predictions(write_predictions(tmp_path / "b", IDS, LOGPS, ANSWERS), ("yes", "no"))
    for value in (np.nan, 0.7):
        logps = LOGPS.copy()
        logps[4, 1] = value
        with pytest.raises(DataError, match="s/4"):
            read_predictions(write_predictions(tmp_path / str(value), IDS, logps, ANSWERS), ANSWERS)


def _rows():
    return [
        ManifestRow("t/0", "t", "0", 0, "train", label="red", fold=1),
        ManifestRow("t/1", "t", "1", 1, "val", label="red", fold=0),
        ManifestRow("b/0", "b", "0", 0, "test", label=None),
        ManifestRow("b/1", "b", "1", 1, "test", label="grey", status=QUARANTINED, reason="zero bytes"),
        ManifestRow("b/2", "b", "2", 2, "test", label="grey"),
    ]


def _joined(tmp_path, base_ids, specialist_ids, rows=None):
    card = make_card()
    dataset = write_dataset(tmp_path / "data", rows or _rows())
    logps = np.log(np.full((5, 4), 0.25))
    base = write_predictions(tmp_path / "base", base_ids, logps[: len(base_ids)], card.label_ids)
    looks = np.log(np.full((len(specialist_ids), 2), 0.5))
    second = write_predictions(tmp_path / "second", specialist_ids, looks, ("yes", "no"))
    return read_rows(
        dataset, card, read_predictions(base, card.label_ids), {"second": read_predictions(second, ("yes", "no"))}
    )


def test_rows_are_those_of_the_manifest_in_its_order(tmp_path):
    found, notes = _joined(tmp_path, ["b/2", "t/1", "t/0", "b/0"], ["b/0", "t/1"])
    assert found.column("sample_id").tolist() == ["t/1", "b/0", "b/1", "b/2"]
    assert found.labels_N.tolist() == [0, UNLABELLED, 3, 3]
    assert found.answered.tolist() == [True, True, False, True]
    assert found.second_looks_SN[0].tolist() == [True, True, False, False]
    assert found.base_errors.to_pylist() == ["", "", "quarantined: zero bytes", ""]
    assert found.look_errors[0].to_pylist()[-1] == "not predicted"
    assert len(notes) == 1
    assert "1 of 4 photos" in notes[0]


def test_a_photo_without_a_base_prediction_is_an_error_not_a_gap(tmp_path):
    with pytest.raises(DataError, match=r"1 photos .* have no row.*b/2"):
        _joined(tmp_path, ["t/1", "b/0"], ["t/1"])


def test_predictions_of_another_data_set_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"another data set: x/9"):
        _joined(tmp_path, ["t/1", "b/0", "b/2", "x/9"], ["t/1"])


def test_labels_of_another_task_are_refused(tmp_path):
    rows = [*_rows(), ManifestRow("b/3", "b", "3", 3, "test", label="violet")]
    with pytest.raises(DataError, match="violet"):
        _joined(tmp_path, ["t/1", "b/0", "b/2", "b/3"], ["t/1"], rows)
