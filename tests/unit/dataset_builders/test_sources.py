"""Lists, folders and tables: what is read, and what is refused with which message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dataset_builders.build_config import Source
from dataset_builders.errors import DataError
from dataset_builders.sources import Entry, read_sources
from dataset_builders.sources.text import decode_text
from dataset_builders.task_card import TaskCard


def read(card: TaskCard, kind: str, path: Path, images: Path | None, role: str = "train", **more: Any) -> list[Entry]:
    fields = {"kind": kind, "name": "s", "role": role, "path": path, **more}
    if images is not None:
        fields["images"] = images
    return read_sources([TypeAdapter(Source).validate_python(fields)], card)


def read_list(card: TaskCard, tmp_path: Path, content: str | bytes, role: str = "train", **more: Any) -> list[Entry]:
    path = tmp_path / "list.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    return read(card, "label_list", path, images, role, **more)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "end"])
def test_label_list_in_every_encoding_and_line_end(
    card: TaskCard, tmp_path: Path, encoding: str, end: str, last: str
) -> None:
    text = end.join(["楼道1.jpg\t危险", "b.jpg\t安全"]) + (end if last else "")
    entries = read_list(card, tmp_path, text.encode(encoding))
    assert [(e.name, e.label, e.position) for e in entries] == [("楼道1.jpg", "hot", 0), ("b.jpg", "cold", 1)]
    assert entries[1].where.endswith("list.txt:2")


def test_named_encoding_is_used_and_a_wrong_one_is_refused(card: TaskCard, tmp_path: Path) -> None:
    assert read_list(card, tmp_path, "a.jpg\t危险".encode("utf-32"), encoding="utf-32")[0].label == "hot"
    with pytest.raises(DataError, match="encoding: auto"):
        read_list(card, tmp_path, "a.jpg\t危险".encode("gbk"), encoding="utf-8")
    with pytest.raises(DataError, match="no-such"):
        read_list(card, tmp_path, "a.jpg\t危险", encoding="no-such")


def test_bytes_of_no_encoding_are_refused(card: TaskCard, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither UTF-8 nor GB18030"):
        read_list(card, tmp_path, b"a.jpg\t\xff\xff\xff\n")


@given(st.text(st.characters(codec="gb18030", exclude_categories=["Cs", "Cc"])))
def test_utf8_text_survives_whatever_it_holds(text: str) -> None:
    assert decode_text(text.encode(), encoding="auto", where="x") == text.lstrip("\ufeff")


def test_lists_with_byte_order_marks_may_be_joined(card: TaskCard, tmp_path: Path) -> None:
    part = b"\xef\xbb\xbf%s.jpg\t\xe5\x8d\xb1\xe9\x99\xa9\r\n"
    entries = read_list(card, tmp_path, part % b"a" + part % b"b" + b"\xef\xbb\xbf" + part % b"c")
    assert [entry.name for entry in entries] == ["a.jpg", "b.jpg", "c.jpg"]


def test_invisible_characters_are_shown_unless_the_photo_has_them(card: TaskCard, tmp_path: Path) -> None:
    names = "a\u200d.jpg\nb\u2028\u200e.jpg\nc\ufeff.jpg\n"
    with pytest.raises(DataError) as caught:
        read_list(card, tmp_path, names + "\u200e" * 300, role="test")  # longer than any file's name
    assert "list.txt:2: 'b\\u2028\\u200e.jpg' holds the invisible U+200E, U+2028, and" in str(caught.value)
    assert "list.txt:3: 'c\\ufeff.jpg' holds the invisible U+FEFF" in str(caught.value)
    assert "3 findings" in str(caught.value)
    for name in names.split("\n")[1:3]:
        (tmp_path / "images" / name).write_bytes(b"x")
    assert len(read_list(card, tmp_path, names, role="test")) == 3


def test_unlabelled_list_keeps_its_order_and_spaces(card: TaskCard, tmp_path: Path) -> None:
    entries = read_list(card, tmp_path, "b c.jpg\n\na.jpg\n", role="test")
    assert [(e.name, e.label, e.position) for e in entries] == [("b c.jpg", None, 0), ("a.jpg", None, 1)]


def test_spaces_separate_only_where_nothing_else_is_possible(card: TaskCard, tmp_path: Path) -> None:
    entries = read_list(card, tmp_path, "my photo.JPG   危险\nb.png 安全\n")
    assert [(e.name, e.label) for e in entries] == [("my photo.JPG", "hot"), ("b.png", "cold")]
    (entry,) = read_list(card, tmp_path, "a.jpg b.jpg\n", role="test")
    assert (entry.name, entry.label) == ("a.jpg b.jpg", None)


def test_labels_may_be_ids_and_aliases(card: TaskCard, tmp_path: Path) -> None:
    assert [e.label for e in read_list(card, tmp_path, "a\thot\nb\t2\nc\t危险\n")] == ["hot"] * 3


@pytest.mark.parametrize(
    ("content", "role", "expected"),
    [
        ("", "train", "empty"),
        ("\n \r\n", "test", "empty"),
        ("a.jpg\t高危\n", "train", r"list.txt:1: unknown label '高危'.*危险, 注意, 安全"),
        ("a.jpg 高危\n", "test", r"unknown label '高危'"),
        (
            "a.jpg\t危险\nb.jpg\t安全\na.jpg\t危险\n",
            "train",
            r"list.txt:3: 'a.jpg' stands already in .*list.txt:1; delete",
        ),
        ("a.jpg\t危险\na.jpg\t安全\n", "train", r"'危险' there and '安全' here; decide"),
        ("a.jpg\n./a.jpg\n", "test", r"list.txt:2: './a.jpg' stands already in .*list.txt:1"),
        ("../a.jpg\t危险\n", "train", r"list.txt:1: '../a.jpg' leaves the image directory"),
        ("x/../../a.jpg\n", "test", "leaves the image directory"),
        ("/etc/passwd\n", "test", "leaves the image directory"),
        ("a\0.jpg\n", "test", "control character"),
        (".\n", "test", "names no file"),
        ("a.jpg\t危险\textra\n", "train", r"list.txt:1: expected name<TAB>label, got 3 fields"),
        ("a.jpg\nb.jpg\n", "train", "no row has a label"),
        ("a.jpg\t危险\nb.jpg\n", "train", r"list.txt:2: 'b.jpg' has no label"),
        ("a.jpg\t危险\nb.jpg\t\n", "test", r"list.txt:2: 'b.jpg' has no label"),
    ],
)
def test_wrong_lists_are_refused_with_file_row_and_remedy(
    card: TaskCard, tmp_path: Path, content: str, role: str, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        read_list(card, tmp_path, content, role=role)


def test_all_findings_come_at_once_and_are_counted(card: TaskCard, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_list(card, tmp_path, "".join(f"{i}.jpg\t?\n" for i in range(25)))
    message = str(caught.value)
    assert "25 findings" in message
    assert message.count("unknown label") == 20
    assert "… and 5 more" in message


def test_link_out_of_the_image_directory_is_refused_and_one_inside_is_not(card: TaskCard, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (images / "real.jpg").write_bytes(b"x")
    (images / "inside.jpg").symlink_to(images / "real.jpg")
    assert len(read_list(card, tmp_path, "inside.jpg\n", role="test")) == 1
    (images / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match="through a link"):
        read_list(card, tmp_path, "outside.jpg\n", role="test")


def test_missing_list_and_missing_image_directory(card: TaskCard, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(card, "label_list", tmp_path / "none.txt", tmp_path)
    (tmp_path / "list.txt").write_text("a.jpg\t危险\n", encoding="utf-8")
    with pytest.raises(DataError, match="no such directory"):
        read(card, "label_list", tmp_path / "list.txt", tmp_path / "none")


def test_image_folder_with_classes_is_sorted_and_keeps_what_is_no_photo(card: TaskCard, tmp_path: Path) -> None:
    for name in ("hot/b.jpg", "安全/a.jpg", "hot/deep/c.jpg", "hot/notes.txt", "hot/.DS_Store", "hot/Thumbs.db"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    entries = read(card, "image_folder", tmp_path / "in", None)
    assert [(e.name, e.label) for e in entries] == [
        ("hot/b.jpg", "hot"),
        ("hot/deep/c.jpg", "hot"),
        ("hot/notes.txt", "hot"),
        ("安全/a.jpg", "cold"),
    ]


def test_image_folder_flat_unknown_mixed_and_empty(card: TaskCard, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(DataError, match="empty"):
        read(card, "image_folder", folder, None, "test")
    (folder / "b.jpg").write_bytes(b"x")
    (folder / "a.jpg").write_bytes(b"x")
    assert [(e.name, e.label) for e in read(card, "image_folder", folder, None, "test")] == [
        ("a.jpg", None),
        ("b.jpg", None),
    ]
    (folder / "lukewarm").mkdir()
    with pytest.raises(DataError, match="both class directories"):
        read(card, "image_folder", folder, None)
    (folder / "a.jpg").rename(folder / "lukewarm" / "a.jpg")
    (folder / "b.jpg").unlink()
    with pytest.raises(DataError, match="unknown label 'lukewarm'"):
        read(card, "image_folder", folder, None)


def test_image_folder_with_a_linked_directory_in_a_class_is_refused(card: TaskCard, tmp_path: Path) -> None:
    for name in ("in/hot/a.jpg", "elsewhere/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "in" / "hot" / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"in/hot/more is a link to a directory; put the photos behind it there"):
        read(card, "image_folder", tmp_path / "in", None)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables_of_every_kind_give_the_same_rows(card: TaskCard, tmp_path: Path, suffix: str) -> None:
    records = [{"file": "a, b.jpg", "grade": "危险"}, {"file": "c.jpg", "grade": "2"}]
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        separator = "," if suffix == ".csv" else "\t"
        rows = [["file", "grade"], ['"a, b.jpg"', "危险"], ["c.jpg", "2"]]
        path.write_bytes("\r\n".join(separator.join(row) for row in rows).encode("gbk"))
    entries = read(card, "table", path, tmp_path, columns={"name": "file", "label": "grade"})
    assert [(e.name, e.label) for e in entries] == [("a, b.jpg", "hot"), ("c.jpg", "hot")]
    unlabelled = read(card, "table", path, tmp_path, "test", columns={"name": "file", "label": None})
    assert [e.label for e in unlabelled] == [None, None]
    with pytest.raises(DataError, match="no column name, label; the table has file, grade"):
        read(card, "table", path, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", b"name,label\n", "empty"),
        ("t.csv", b"", "empty"),
        ("t.csv", b"name,label\n,hot\n", r"t.csv:2: column 'name' is empty"),
        ("t.csv", b"name,label\na.jpg,hot,more\n", r"t.csv:2: more fields"),
        ("t.csv", b"name,label,label\na.jpg,hot,cold\n", r"t.csv:1: column 'label' is there twice; rename or delete"),
        ("t.jsonl", b'{"name": "a.jpg", "label": "hot"}\n{oops\n', r"t.jsonl:2: not JSON"),
        ("t.jsonl", b"[1]\n", "expected an object, got list"),
        ("t.parquet", b"PAR1 no", "not a Parquet file"),
        ("t.xlsx", b"x", "unknown kind of table"),
    ],
)
def test_wrong_tables_are_refused(card: TaskCard, tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=expected):
        read(card, "table", tmp_path / name, tmp_path)


@settings(max_examples=50)
@given(names=st.lists(st.from_regex(r"[a-z0-9/._ -]{1,12}", fullmatch=True), min_size=1, max_size=5))
def test_whatever_a_list_names_no_entry_lies_outside(
    card: TaskCard, tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    tmp_path = tmp_path_factory.mktemp("names")
    try:
        entries = read_list(card, tmp_path, "\n".join(names), role="test")
    except DataError:
        return
    root = (tmp_path / "images").resolve()
    assert all(entry.file.resolve().is_relative_to(root) for entry in entries)
