"""What the server gives and takes: photos of the queue alone, whole decisions alone, pages that name no other host."""

from __future__ import annotations

import csv
import shutil

import pytest
from report_data import HOSTILE

from dataset_builders.errors import ConfigError, DataError
from fusion.review_queue import sheet_cells
from launch.cli import main
from launch.report.run_files import find_run
from launch.review import DecisionStore, read_all, read_queue
from launch.review.lockdown import without_other_hosts
from launch.review.service import ReviewService


@pytest.fixture
def client(files, card):
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    service = ReviewService(card, read_queue(files), DecisionStore(files.run / "review"))
    return TestClient(Starlette(routes=service.routes()))


def wish(index, sample_id, **changes):
    return {"reviewer": "Anna", "index": index, "sample_id": sample_id, "label": "high", "note": "ü"} | changes


def test_queue_is_that_of_the_file(files, card):
    queue = read_queue(files)
    with (files.fusion / "review.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(photo.source, photo.name) for photo in queue.photos] == [(row["source"], row["name"]) for row in rows]
    assert queue.photos[0].sample_id == f"board_b/{HOSTILE}"
    for photo, row in zip(queue.photos[1:], rows[1:], strict=True):
        said = photo.opinion
        assert card.text_of(said.decided) == row["decided"]
        inside = [label.text for label, held in zip(card.labels, said.in_set, strict=True) if held]
        assert " | ".join(inside) == row["prediction_set"]
        assert said.reason == row["reason"]
        if row["base_confidence"]:
            assert max(said.base) == pytest.approx(float(row["base_confidence"]), abs=1e-6)
            assert sum(said.base) == pytest.approx(1)
            assert sum(said.fused) == pytest.approx(1, abs=1e-5)
        else:
            assert said.base == said.fused == ()
    unread = [photo for photo in queue.photos if not photo.opinion.base]
    assert {photo.image is None for photo in unread} == {True, False}  # one is quarantined, one was not read


def test_queue_of_one_source_of_a_bare_fusion_directory(run, card_path):
    with pytest.raises(ConfigError, match="--task and --data"):
        find_run(run / "fusion")
    data = find_run(run).dataset
    files = find_run(run / "fusion", task=card_path, data=data)
    assert {photo.source for photo in read_queue(files, "board_a").photos} <= {"board_a"}
    assert len(read_queue(files).photos) > 20
    with pytest.raises(ConfigError, match="no test source 'x'"):
        read_queue(files, "x")


def test_names_that_look_alike_in_a_spreadsheet_are_told_apart(files, card):
    import pyarrow as pa

    from launch.review.queue import _rows_of

    names = ["=a.jpg", "'=a.jpg", "b.jpg"]
    assert sheet_cells(pa.array(names)).to_pylist() == ["'=a.jpg", "'=a.jpg", "b.jpg"]
    table = pa.table({"source": ["s"] * 3, "name": names} | {f"p_base_{k}": [0.1, 0.9, 0.5] for k in card.label_ids})
    entries = [{"source": "s", "name": "'=a.jpg", "base_confidence": p} for p in ("0.9", "0.1")]
    assert _rows_of(entries, table, card, files.fusion) == [1, 0]
    with pytest.raises(DataError, match="a spreadsheet may have changed"):
        _rows_of([{"source": "s", "name": "c.jpg", "base_confidence": ""}], table, card, files.fusion)


def test_decision_is_kept_and_given_back(client, files):
    item = client.get("/review/item/0").json()
    assert item["sample_id"] == f"board_b/{HOSTILE}"
    assert client.post("/review/decide", json=wish(0, item["sample_id"])).json() == {"saved": True}
    (found,) = read_all(files.run / "review")
    assert (found.reviewer, found.labels) == ("Anna", {item["sample_id"]: "high"})
    given = client.get("/review/decisions", params={"reviewer": "Anna"}).json()
    assert given == {"reviewer": "Anna", "decisions": [[0, "high", "ü"]], "warning": None}
    assert client.get("/review/decisions", params={"reviewer": "../../bob"}).json()["reviewer"] == "bob"
    assert client.get("/review/decisions", params={"reviewer": "/"}).status_code == 422


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"label": "gone"}, 422),
        ({"note": "x" * 2001}, 422),
        ({"reviewer": ".."}, 422),
        ({"index": 9999}, 409),
        ({"index": -1}, 409),
        ({"sample_id": "board_b/other.jpg"}, 409),
        ({"extra": 1}, 422),
    ],
)
def test_what_cannot_be_kept_is_refused(client, files, changes, status):
    answer = client.post("/review/decide", json=wish(0, f"board_b/{HOSTILE}") | changes)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert read_all(files.run / "review") == []


def test_other_pages_cannot_decide(client, files):
    body = wish(0, f"board_b/{HOSTILE}")
    assert client.post("/review/decide", json=body, headers={"Origin": "http://evil.example"}).status_code == 403
    plain = client.post("/review/decide", content="{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    assert read_all(files.run / "review") == []


def test_disk_that_cannot_be_written_is_told(client, files):
    (files.run / "review").write_text("a file where the directory should be", encoding="utf-8")
    answer = client.post("/review/decide", json=wish(0, f"board_b/{HOSTILE}"))
    assert answer.status_code == 507
    assert "review" in answer.json()["error"]


def test_photos_of_the_queue_alone_are_served_and_as_photos_alone(client, files):
    photo = client.get("/review/photo/0")
    assert (photo.status_code, photo.headers["content-type"]) == (200, "image/jpeg")
    assert photo.content.startswith(b"\xff\xd8")
    for path in ("99999", "-1", "..%2f..%2fetc%2fpasswd", "0/../../etc/passwd"):
        assert client.get(f"/review/photo/{path}").status_code == 404


def test_manifest_cannot_name_files_outside_of_the_data_set(files, tmp_path):
    from dataset_builders.manifest import ManifestRow, write_manifest
    from launch.review.queue import _images

    named = ("../secret.jpg", "/etc/passwd", "images/../../secret.jpg", "images/./1.jpg", "..a/1.jpg")
    write_manifest(
        tmp_path, [ManifestRow(f"s/{n}", "s", str(n), n, "test", image=image) for n, image in enumerate(named)]
    )
    found = _images(tmp_path, [f"s/{n}" for n in range(len(named))])
    assert list(found) == ["s/3", "s/4"]


def test_names_and_errors_are_escaped(client, files):
    texts = [client.get(f"/review/item/{index}").json()["opinion"] for index in range(len(read_queue(files).photos))]
    assert any("cannot identify &lt;script&gt;" in text for text in texts)
    assert not any("<script" in text or "<img" in text for text in texts)


def test_page_names_no_other_host():
    html = """<head><meta property="og:image" content="https://a.example/x.jpg" />
    <link rel="preconnect" href="https://fonts.googleapis.com" />
    <script src="https://cdn.example/x.js" async></script>
    <script>window.gradio_config = {"a": "\\u003cscript"};</script>
    <script type="module" src="./a.js"></script></head>"""
    got = without_other_hosts(html, "n0")
    assert "example" not in got
    assert "googleapis" not in got
    assert '<script nonce="n0">window.gradio_config' in got
    assert '<script nonce="n0" type="module" src="./a.js">' in got


def test_command_says_what_is_wrong(run, tmp_path, capsys):
    assert main(["review", str(tmp_path / "absent")]) == 2
    assert "no such directory" in capsys.readouterr().err
    assert main(["review", str(run), "--port", "99999"]) == 2
    assert "--port must be from 0 to 65535" in capsys.readouterr().err
    assert main(["review", str(run), "--reviewer", "..", "--port", "0"]) == 2
    assert "with a letter or digit" in capsys.readouterr().err
    shutil.rmtree(run / "fusion")
    assert main(["review", str(run)]) == 2
    assert "fusion has not been run yet" in capsys.readouterr().err
