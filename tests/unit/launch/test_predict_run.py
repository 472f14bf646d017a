"""Prediction runs: same bytes for any engine and after a crash, failures as rows, mismatches refused."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from dataset_builders.errors import ConfigError, DataError, FingerprintMismatch, PhotoError
from dataset_builders.files import file_sha256
from dataset_builders.manifest import QUARANTINED, ManifestRow, write_manifest
from launch.cli import main
from launch.predict import PredictConfig, predict, rows
from launch.predict.worker import read_photo

SHARD = 8


@pytest.fixture
def settings(tiny_recipe, card_path, photo_dir, tmp_path) -> dict:
    names = [path.name for path in sorted(photo_dir.iterdir())]
    photo_list = tmp_path / "list.txt"
    photo_list.write_text("\n".join([*names[:13], "missing.png", *names[13:]]) + "\n", encoding="utf-8")
    return {
        "recipe": tiny_recipe,
        "task": card_path,
        "stage": "base",
        "images": photo_dir,
        "photo_list": photo_list,
        "adapter": "none",
        "engine": "local",
        "batch_size": 4,
        "shard_size": SHARD,
        "out": tmp_path / "predictions",
    }


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def flags(settings: dict) -> list[str]:
    words = ["predict"]
    for name, value in settings.items():
        words += ["--" + {"photo_list": "list"}.get(name, name).replace("_", "-"), str(value)]
    return words


def test_rows_follow_the_list_and_a_missing_photo_is_a_failed_row(settings, card):
    report = predict(PredictConfig(**settings))
    assert report.complete
    assert [row["sample_id"] for row in report.failed_rows] == ["list/missing.png"]
    rows = [row for path in sorted(settings["out"].glob("part-*")) for row in pq.read_table(path).to_pylist()]
    names = settings["photo_list"].read_text(encoding="utf-8").split()
    assert [row["sample_id"] for row in rows] == [f"list/{name}" for name in names]
    columns = [f"logp_{label_id}" for label_id in card.label_ids]
    for row in rows:
        logp = np.array([row[column] for column in columns])
        if row["status"] == "failed":
            assert np.isnan(logp).all()
            assert np.isnan(row["off_label_mass"])
            assert row["error"] == "no such file"
        else:
            assert row["off_label_mass"] == pytest.approx(1 - np.exp(logp).sum())
            assert not row["error"]
    marker = json.loads((settings["out"] / "predictions.json").read_text(encoding="utf-8"))
    assert (marker["rows"], marker["shards"], marker["failed"]) == (len(names), 6, 1)
    assert marker["fingerprint"] == report.fingerprint
    photos = [settings["images"] / name for name in names]
    pictures = "".join(file_sha256(photo) if photo.is_file() else "" for photo in photos)
    assert marker["photos_sha256"] == hashlib.sha256(pictures.encode()).hexdigest()
    metadata = pq.read_schema(settings["out"] / "part-00000.parquet").metadata
    assert json.loads(metadata[b"riskfuse.fingerprint"]) == report.fingerprint
    assert json.loads(metadata[b"riskfuse.stage"]) == {"stage": "base", "answers": list(card.label_ids)}


def test_listed_photo_that_cannot_be_read_is_a_row(card, tmp_path, monkeypatch):
    """No permission, as here, or a name that is too long: the row fails when it is read."""
    for name in ("a.png", "closed.png"):
        (tmp_path / name).write_bytes(b"photo")
    (tmp_path / "list.txt").write_text(f"a.png\nclosed.png\n{'b' * 300}.png\n", encoding="utf-8")

    def read(path: Path) -> str:  # root may read everything
        if path.name == "closed.png":
            raise PermissionError(13, "Permission denied", str(path))
        return "hash"

    monkeypatch.setattr(rows, "file_sha256", read)
    assert [row.sha256 for row in rows.rows_from_list(tmp_path, tmp_path / "list.txt", card)] == ["hash", "", ""]
    with pytest.raises(PhotoError, match="cannot be read: File name too long"):
        read_photo(str(tmp_path / f"{'b' * 300}.png"))


def test_metrics_say_how_far_a_run_is(settings, tmp_path):
    from prometheus_client.parser import text_string_to_metric_families

    def read() -> dict[str, float]:
        families = text_string_to_metric_families((tmp_path / "metrics" / "predict.prom").read_text(encoding="utf-8"))
        samples = [sample for family in families for sample in family.samples]
        assert all(sample.labels == {"stage": "base", "out": str(settings["out"])} for sample in samples)
        return {sample.name.removeprefix("riskfuse_predict_"): sample.value for sample in samples}

    settings |= {"metrics": tmp_path / "metrics" / "predict.prom"}
    started = time.time()
    report = predict(PredictConfig(**settings))
    first = read()
    assert started <= first.pop("updated_seconds") <= time.time()
    whole = {"photos": report.rows, "photos_done": report.rows, "photos_failed": 1, "running": 0}
    assert first == whole | {"shards_failed": 0, "worker_deaths": 0}
    (settings["out"] / "part-00002.parquet").unlink()  # without the missing photo
    predict(PredictConfig(**settings))
    assert read().items() >= (whole | {"photos_failed": 0}).items()


def test_lost_part_is_made_again_with_the_same_bytes(settings):
    first = predict(PredictConfig(**settings))
    before = contents(settings["out"])
    assert predict(PredictConfig(**settings)).reused == 6
    (settings["out"] / "part-00002.parquet").unlink()
    (settings["out"] / "predictions.json").unlink()
    (settings["out"] / ".part-00002.parquet.123.tmp").write_bytes(b"PAR1")  # its writer was killed
    again = predict(PredictConfig(**settings))
    assert (again.reused, again.failed_rows) == (5, first.failed_rows)
    assert contents(settings["out"]) == before
    for half in (before["predictions.json"][:20], b"\xe4"):
        (settings["out"] / "predictions.json").write_bytes(half)
        predict(PredictConfig(**settings))
        assert contents(settings["out"]) == before


def test_mismatch_is_refused_with_its_reason_and_overwrite_mends_it(settings):
    predict(PredictConfig(**settings))
    with pytest.raises(FingerprintMismatch, match=r"batch_size \(4 there, 5 now\).*--overwrite"):
        predict(PredictConfig(**settings | {"batch_size": 5}))
    lines = settings["photo_list"].read_text(encoding="utf-8").split()
    settings["photo_list"].write_text("\n".join(lines[:SHARD]) + "\n", encoding="utf-8")
    with pytest.raises(FingerprintMismatch, match="longer list"):
        predict(PredictConfig(**settings))
    settings["photo_list"].write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")
    with pytest.raises(FingerprintMismatch, match="other photos"):
        predict(PredictConfig(**settings))
    assert predict(PredictConfig(**settings | {"overwrite": True})).complete


def test_overwrite_keeps_the_parts_of_this_configuration(settings):
    """So the command with it goes on after an interruption."""
    predict(PredictConfig(**settings | {"batch_size": 5, "shard_size": 4}))
    settings |= {"overwrite": True}
    assert predict(PredictConfig(**settings)).reused == 0
    before = contents(settings["out"])
    assert len(before) == 6 + 1, "neither parts of the longer list nor the marker stayed"
    (settings["out"] / "part-00001.parquet").write_bytes(b"PAR1")
    (settings["out"] / "part-00002.parquet").unlink()
    assert predict(PredictConfig(**settings)).reused == 4
    assert contents(settings["out"]) == before


def test_quarantined_and_newly_broken_photos_of_a_data_set(settings, photo_dir, tmp_path, capsys):
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    good = (photo_dir / "000.png").read_bytes()
    (data / "images" / "good.png").write_bytes(good)
    (data / "images" / "broken.png").write_bytes(good[: len(good) // 2])
    rows = [
        ManifestRow("a/train.png", "a", "train.png", 0, "train", image="images/good.png"),
        ManifestRow("a/good.png", "a", "good.png", 1, "test", image="images/good.png"),
        ManifestRow("a/bad.png", "a", "bad.png", 2, "test", status=QUARANTINED, reason="empty file (0 bytes)"),
        ManifestRow("a/val.png", "a", "val.png", 3, "val", image="images/good.png"),
    ]
    write_manifest(data, rows)
    settings = {k: v for k, v in settings.items() if k not in ("images", "photo_list")} | {"data": data}
    assert main(flags(settings)) == 0  # the build has told about the quarantined photo
    table = pq.read_table(settings["out"] / "part-00000.parquet").to_pylist()
    assert [row["sample_id"] for row in table] == ["a/val.png", "a/good.png", "a/bad.png"]
    assert table[2]["error"] == "quarantined: empty file (0 bytes)"
    write_manifest(data, [*rows, ManifestRow("a/new.png", "a", "new.png", 4, "test", image="images/broken.png")])
    capsys.readouterr()
    assert main([*flags(settings | {"out": tmp_path / "second"}), "--json"]) == 1
    shown = capsys.readouterr()
    assert "a/new.png: broken photo" in shown.err
    found = json.loads(shown.out)
    assert (found["complete"], found["rows"], found["quarantined"], len(found["failed_rows"])) == (True, 4, 1, 2)
    with pytest.raises(DataError, match="no photos in split"):
        predict(PredictConfig(**settings | {"splits": ("val", "dev")}))


def test_impossible_flags_are_one_message(settings, capsys, tmp_path):
    assert main(flags(settings | {"data": tmp_path, "batch_size": 0})) == 2
    message = capsys.readouterr().err
    assert "batch_size" in message
    with pytest.raises(ValueError, match="exclude each other"):
        PredictConfig(**settings | {"merged": tmp_path})
    with pytest.raises(ConfigError, match="train first"):
        predict(PredictConfig(**settings | {"adapter": str(tmp_path)}))


def test_scores_do_not_depend_on_the_shard(settings, tmp_path):
    """Shards that end at a batch's end hold the same batches."""
    predict(PredictConfig(**settings))
    other = PredictConfig(**settings | {"shard_size": 2 * SHARD, "out": tmp_path / "other"})
    predict(other)

    def scores(out: Path) -> list:
        return [row for path in sorted(out.glob("part-*")) for row in pq.read_table(path).to_pylist()]

    np.testing.assert_equal(scores(settings["out"]), scores(other.out))


@pytest.mark.slow
@pytest.mark.long  # the next ones say the same of two workers that were disturbed
def test_ray_gives_the_bytes_of_the_local_engine_for_any_worker_count(settings, tmp_path):
    predict(PredictConfig(**settings))
    expected = contents(settings["out"])
    for workers in (1, 2):
        out = tmp_path / f"ray{workers}"
        report = predict(PredictConfig(**settings | {"engine": "ray", "workers": workers, "out": out}))
        assert report.complete
        assert contents(out) == expected


@pytest.mark.slow
def test_kill_in_the_middle_then_resume_gives_the_same_bytes(settings, tmp_path):
    settings |= {"shard_size": 4}
    predict(PredictConfig(**settings))
    expected = contents(settings["out"])
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "launch.cli", *flags(settings | {"engine": "ray", "workers": 2, "out": out})]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(out.glob("part-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    sockets = [socket for member in family for socket in member.net_connections() if socket.status == "LISTEN"]
    assert {socket.laddr.ip.removeprefix("::ffff:") for socket in sockets} == {"127.0.0.1"}
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(out.glob("part-*")))
    assert 0 < done < 11
    assert not (out / "predictions.json").exists()
    report = predict(PredictConfig(**settings | {"out": out}))
    assert report.reused >= done
    assert contents(out) == expected


@pytest.mark.slow
def test_dead_actor_is_replaced_and_its_shard_scored_again(settings, tmp_path):
    """An actor is killed from outside while it holds a shard."""
    import ray

    from launch.predict.actor_pool import ActorPool
    from launch.predict.plan import photo_rows, scoring_job
    from launch.predict.rows import cut_shards

    config = PredictConfig(**settings)
    shards = cut_shards(photo_rows(config), SHARD)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
    try:
        pool = ActorPool(scoring_job(config), workers=2)
        results = []
        for result in pool.run(shards):
            results.append(result)
            if len(results) == 1:
                ray.kill(next(iter(pool._flights.values()))[0])
        pool.stop()
    finally:
        ray.shutdown()
    assert sorted(result.shard.index for result in results) == list(range(len(shards)))
    assert all(result.scores is not None for result in results)
