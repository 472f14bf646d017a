"""Prediction whose photos and parts are behind URIs: the same numbers, resumable, and a closed store is one error."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
import pytest

from dataset_builders import stores
from dataset_builders.errors import DataError, FingerprintMismatch, StoreError, StoreForbidden
from dataset_builders.log_probabilities import read_log_probabilities
from dataset_builders.manifest import ManifestRow, write_manifest
from dataset_builders.stores import StorePath, listed
from fusion.predictions import read_predictions
from launch.cli import main
from launch.predict import PredictConfig, predict

SHARD = 8


@pytest.fixture
def photos(photo_dir, tmp_path) -> Path:
    """Twenty photos."""
    directory = tmp_path / "photos"
    directory.mkdir()
    for path in sorted(photo_dir.iterdir())[:20]:
        shutil.copyfile(path, directory / path.name)
    return directory


@pytest.fixture
def settings(tiny_recipe, card_path, photos, tmp_path, monkeypatch) -> dict:
    monkeypatch.setattr(stores, "PAUSES_S", (0.0,))
    photo_list = tmp_path / "list.txt"
    photo_list.write_text("\n".join(path.name for path in sorted(photos.iterdir())) + "\n", encoding="utf-8")
    return {
        "recipe": tiny_recipe,
        "task": card_path,
        "stage": "base",
        "images": photos,
        "photo_list": photo_list,
        "adapter": "none",
        "engine": "local",
        "batch_size": 4,
        "shard_size": SHARD,
        "out": tmp_path / "predictions",
    }


def store() -> StorePath:
    return StorePath(f"memory://{uuid4().hex}/predictions")


def answers(card) -> tuple[str, ...]:
    return tuple(card.label_ids)


def test_photos_of_a_web_server_get_the_numbers_of_a_disk(settings, photos, web_server, card):
    predict(PredictConfig(**settings))
    (photos / "005.png").unlink()
    (photos / "006.png").rename(photos / "006_403.png")
    listing = settings["photo_list"].read_text(encoding="utf-8").replace("006.png", "006_403.png")
    settings["photo_list"].write_text(listing, encoding="utf-8")
    out = store()
    report = predict(PredictConfig(**settings | {"images": web_server(photos), "out": out}))
    assert report.complete
    assert report.failed_rows == [
        {"sample_id": "list/005.png", "error": "no such file"},
        {"sample_id": "list/006_403.png", "error": "cannot be read: no permission"},
    ]
    local, remote = read_predictions(settings["out"], answers(card)), read_predictions(str(out), answers(card))
    assert remote.failed_N.nonzero()[0].tolist() == [5, 6]
    # In the batch with the failed photos padding differs; the others are the same to the last bit.
    same = [row for row in range(20) if row // 4 != 1]
    np.testing.assert_array_equal(remote.logps_NK[same], local.logps_NK[same])
    assert read_log_probabilities([out], card).directory_of["list/000.png"] == out


def test_parts_in_a_store_are_kept_and_have_the_bytes_of_a_disk(settings):
    out = store()
    predict(PredictConfig(**settings))
    report = predict(PredictConfig(**settings | {"out": out}))
    assert (report.complete, report.reused) == (True, 0)
    expected = {path.name: path.read_bytes() for path in settings["out"].iterdir()}
    assert {place.name: place.read_bytes() for place in listed(out, "*")} == expected
    (out / "part-00001.parquet").unlink()
    (out / "predictions.json").unlink()
    assert predict(PredictConfig(**settings | {"out": out})).reused == 2
    assert {place.name: place.read_bytes() for place in listed(out, "*")} == expected
    with pytest.raises(FingerprintMismatch, match=rf"{out}/part-00000\.parquet: .*batch_size"):
        predict(PredictConfig(**settings | {"out": out, "batch_size": 5}))
    assert predict(PredictConfig(**settings | {"out": out, "batch_size": 5, "overwrite": True})).complete


def test_a_photo_that_was_replaced_in_its_store_is_noticed(settings, photos):
    images = store()
    for path in photos.iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    predict(PredictConfig(**settings | {"images": images}))
    (images / "003.png").write_bytes((photos / "004.png").read_bytes())
    with pytest.raises(FingerprintMismatch, match="other photos"):
        predict(PredictConfig(**settings | {"images": images}))


def test_a_data_set_in_a_store(settings, photos, tmp_path, web_server):
    rows = [
        ManifestRow(f"s/{n}", "s", f"{n}", n, split="test", image=f"photos/{n:03d}.png", sha256="0") for n in range(6)
    ]
    write_manifest(tmp_path, rows)
    data = {"images": None, "photo_list": None, "data": web_server(tmp_path), "splits": ("test",)}
    assert predict(PredictConfig(**settings | data)).failed_rows == []
    table = pq.read_table(settings["out"] / "part-00000.parquet")
    assert table["image"].to_pylist()[0] == f"{data['data']}/photos/000.png"
    shutil.rmtree(photos)
    with pytest.raises(DataError, match=rf"{data['data']}: none of 6 photos is there"):
        predict(PredictConfig(**settings | data))


def test_an_address_without_photos_is_one_error(settings, web_server, photos):
    with pytest.raises(DataError, match=r"/wrong: none of 20 photos is there"):
        predict(PredictConfig(**settings | {"images": web_server(photos) + "/wrong"}))


def test_a_store_that_stops_to_answer_ends_the_run_with_one_error(settings, photos, web_server, monkeypatch, card):
    read = StorePath.read_bytes
    unreachable = f"http://127.0.0.1:{free_port()}"

    def cut_off(place):
        return read(StorePath(f"{unreachable}/{place.name}") if place.name == "009.png" else place)

    settings["images"] = web_server(photos)
    monkeypatch.setattr(StorePath, "read_bytes", cut_off)
    with pytest.raises(StoreError, match=r"009\.png: not reached from"):
        predict(PredictConfig(**settings))
    assert [path.name for path in settings["out"].iterdir()] == ["part-00000.parquet"]
    monkeypatch.undo()
    assert predict(PredictConfig(**settings)).reused == 1


def test_photos_that_only_the_driver_may_see_are_one_error(settings, photos, web_server, monkeypatch):
    def forbidden(place):
        raise StoreForbidden(f"{place}: {stores.FORBIDDEN}")

    monkeypatch.setattr(StorePath, "read_bytes", forbidden)
    with pytest.raises(StoreError, match=r"000\.png: no permission to read it or any photo of its part"):
        predict(PredictConfig(**settings | {"images": web_server(photos)}))


def test_the_command_names_what_is_wrong(settings, photos, web_server, capsys):
    def run(**changed) -> str:
        words = ["predict"]
        for name, value in (settings | changed).items():
            if value is None:
                continue
            words += ["--" + {"photo_list": "list"}.get(name, name).replace("_", "-"), str(value)]
        assert main(words) == 2
        return capsys.readouterr().err

    assert "s4://a/000.png: Protocol not known: s4" in run(images="s4://a")
    assert "nothing can be written to http://localhost/out" in run(out="http://localhost/out")
    assert "not reached from" in run(images=f"http://127.0.0.1:{free_port()}/photos")
    assert "403/manifest.parquet: no permission; check the store's credentials" in run(
        images=None, photo_list=None, data=f"{web_server(photos)}/403"
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
def test_ray_workers_read_photos_behind_uris_and_a_store_that_fails_is_one_error(settings, photos, web_server):
    (photos / "019.png").rename(photos / "get503.png")
    names = [path.name for path in sorted(photos.iterdir())]
    settings["photo_list"].write_text("\n".join(names), encoding="utf-8")
    settings["images"] = web_server(photos)
    out = settings["out"].with_name("ray")
    with pytest.raises(StoreError, match=rf"get503\.png: not reached from {socket.gethostname()}: .*503"):
        predict(PredictConfig(**settings | {"out": f"file://{out}", "engine": "ray"}))
    with pytest.raises(StoreError, match=r"get503\.png"):
        predict(PredictConfig(**settings))
    parts = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(parts) == ["part-00000.parquet", "part-00001.parquet"]
    assert parts == {path.name: path.read_bytes() for path in settings["out"].iterdir()}
