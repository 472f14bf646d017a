"""Files behind URIs behave as files on a disk, and what is wrong with a store is said in words."""

from __future__ import annotations

import importlib.util
import pickle
import socket
from pathlib import Path
from uuid import uuid4

import pytest

from dataset_builders import stores
from dataset_builders.errors import ConfigError, StoreError
from dataset_builders.files import remove_unfinished, write_bytes, write_json
from dataset_builders.stores import StorePath, each, listed, location, parquet_source


@pytest.fixture(params=["disk", "memory"])
def directory(request, tmp_path):
    """A directory that is not there yet, on a disk and in a store."""
    return tmp_path / "new" if request.param == "disk" else StorePath(f"memory://{uuid4().hex}/new")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(stores, "PAUSES_S", (0.0,))


def test_a_store_is_used_like_a_disk(directory):
    assert listed(directory, "*") == []
    write_bytes(directory / "part-2", b"two")
    write_bytes(directory / "part-1", b"one")
    write_json(directory / "marker.json", {"label": "高"})
    remove_unfinished(directory)
    assert [place.name for place in listed(directory, "part-*")] == ["part-1", "part-2"]
    assert each(lambda place: place.read_bytes(), listed(directory, "part-*")) == [b"one", b"two"]
    assert (directory / "marker.json").read_text(encoding="utf-8") == '{\n  "label": "高"\n}\n'
    write_bytes(directory / "part-1", b"new")
    assert (directory / "part-1").read_bytes() == b"new"
    (directory / "part-1").unlink()
    (directory / "part-1").unlink(missing_ok=True)
    assert not (directory / "part-1").is_file()
    with pytest.raises(FileNotFoundError):
        (directory / "part-1").unlink()
    with pytest.raises(FileNotFoundError):
        (directory / "part-1").read_bytes()


def test_parquet_is_read_from_either(directory):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    content = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), content)
    write_bytes(directory / "table", content.getvalue())
    assert pq.read_table(parquet_source(directory / "table")).to_pydict() == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data/photos", Path("data/photos")),
        ("/data/a:b", Path("/data/a:b")),
        ("file:///data/a%20b", Path("/data/a b")),
        ("s3://bucket/photos/", StorePath("s3://bucket/photos")),
        (Path("x"), Path("x")),
    ],
)
def test_what_is_a_path_and_what_a_uri(text, expected):
    assert location(text) == expected
    assert pickle.loads(pickle.dumps(expected)) == expected


def test_a_new_content_has_another_identity():
    place = StorePath(f"memory://{uuid4().hex}/a")
    place.write_bytes(b"one")
    first = place.identity()
    assert place.identity() == first
    place.write_bytes(b"other")
    assert place.identity() != first


def test_files_of_a_web_server(web_server, tmp_path):
    names = ["a b.txt", "高 #1?.txt", "50%.txt"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "403.txt").touch()
    root = location(web_server(tmp_path))
    assert each(lambda place: place.read_bytes(), [root / name for name in names]) == [n.encode() for n in names]
    assert (root / names[0]).is_file()
    assert (root / names[0]).identity() == "size=7"
    for call in (StorePath.read_bytes, StorePath.identity):
        with pytest.raises(FileNotFoundError, match="no such file"):
            call(root / "none.txt")
        with pytest.raises(PermissionError, match="no permission"):
            call(root / "403.txt")
        with pytest.raises(StoreError, match=r"none503\.txt: not reached from .*503.*credentials"):
            call(root / "none503.txt")
    with pytest.raises(ConfigError, match="cannot be written"):
        (root / "new.txt").write_bytes(b"")


def test_a_store_that_does_not_answer_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = StorePath(f"http://127.0.0.1:{free.getsockname()[1]}/a.jpg")
        for call in (StorePath.read_bytes, StorePath.is_file, StorePath.identity):
            with pytest.raises(StoreError, match=rf"{place}: not reached from {socket.gethostname()}.*network"):
                call(place)


def test_an_answer_that_comes_late_is_waited_for(monkeypatch):
    tries = []

    def request(fs, path):
        tries.append(path)
        if len(tries) == 1:
            raise ConnectionResetError("once")
        return b"content"

    assert StorePath("memory://a/b")._ask(request) == b"content"
    assert len(tries) == 2


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="the package is there")
def test_a_missing_package_is_named():
    with pytest.raises(ConfigError, match="s3://bucket/a: Install s3fs to access S3, on every machine"):
        StorePath("s3://bucket/a").read_bytes()


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ConfigError, match="s4://bucket/a: Protocol not known: s4"):
        StorePath("s4://bucket/a").is_file()
