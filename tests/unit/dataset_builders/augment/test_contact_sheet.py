"""The page: self-contained, escaped, sorted, capped."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image
from tiny_task import make_photo

from dataset_builders.augment import contact_sheet
from dataset_builders.augment.contact_sheet import Group, Picture, write_contact_sheet, write_verification_sheet
from dataset_builders.errors import DataError
from dataset_builders.manifest import DROPPED, ManifestRow, write_manifest
from dataset_builders.task_card import TaskCard


def thumbnails(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    make_photo(1, (300, 120)).save(photo)
    small = tmp_path / "small.png"
    make_photo(2, (40, 30)).save(small)
    evil = '<script>alert("x")</script>'
    groups = [Group(evil, (Picture(photo, (evil, "危险"), "bad", evil), Picture(small)))]
    write_contact_sheet(tmp_path / "page.html", evil, [evil], groups, side=100)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "危险" in page
    assert [image.size for image in thumbnails(page)] == [(100, 40), (40, 30)]
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    write_contact_sheet(tmp_path / "again.html", evil, [evil], groups, side=100)
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "page.html").read_bytes()


def test_empty_page_and_missing_photo(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "page.html", "Nothing", [], [])
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be shown"):
        write_contact_sheet(tmp_path / "page.html", "T", [], [Group("g", (Picture(tmp_path / "gone.jpg"),))])
    assert "Nothing" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_verification_sheet_shows_the_worst_first_and_is_capped(
    tmp_path: Path, card: TaskCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    make_photo(0).save(tmp_path / "photo.jpg")
    for number in range(4):
        row = ManifestRow(f"s/{number}", "s", f"{number}.jpg", number, "train", "hot", image="photo.jpg")
        rows.append(row)
        for k, score in enumerate((1.0, -2.0 + number)):
            change = {
                "sample_id": f"{row.sample_id}~{k:03d}",
                "parent": row.sample_id,
                "transform": '[{"transform": "Affine", "angle": 3}]',
                "verification_score": score,
                "status": DROPPED if score < -1.5 else "ok",
            }
            rows.append(ManifestRow(**(asdict(row) | change)))
    write_manifest(tmp_path, rows[::-1])
    monkeypatch.setattr(contact_sheet, "GROUPS_SHOWN", 3)
    verification = {"by": "stage1", "copies": 8, "dropped": [{}]}
    write_verification_sheet(tmp_path / "page.html", tmp_path, card, verification)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "3 of 4 originals" in page
    assert "1 of 8 copies were dropped" in page
    assert re.findall(r"<h2>(\S+):", page) == ["s/0", "s/1", "s/2"]
    captions = re.findall(r"score (\S+), (\w+)", page)
    shown = [
        ("-2.00", "dropped"),
        ("1.00", "kept"),
        ("-1.00", "kept"),
        ("1.00", "kept"),
        ("0.00", "kept"),
        ("1.00", "kept"),
    ]
    assert [pair for number, pair in enumerate(captions) if number % 2 == 0] == shown  # each stands in alt too
    assert len(thumbnails(page)) == 9
    assert "Affine" in page
    assert page.count('class="bad"') == 1
