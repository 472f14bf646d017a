"""Decisions survive: torn lines, writers that are killed, several reviewers, names that try to be paths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from reviewers import decided, write_decisions

from dataset_builders.errors import ConfigError
from launch.review.store import DecisionStore, clean_reviewer, read_all, read_decisions

WRITER = """
import sys
from pathlib import Path
from launch.review.store import Decision, DecisionStore
store = DecisionStore(Path(sys.argv[1]))
number = 0
while True:
    store.append("anna", Decision(sample_id=f"s/{number}", label="high", note="ü" * 300, decided="none", at="t"))
    print(number, flush=True)
    number += 1
"""


def test_no_file_no_decisions(tmp_path):
    assert read_decisions(tmp_path / "absent", "anna").last == {}
    assert read_all(tmp_path / "absent") == []


def test_last_line_of_a_photo_wins_and_orders(tmp_path):
    store = DecisionStore(tmp_path / "review")
    for sample_id, label in (("s/1", "high"), ("s/2", "low"), ("s/1", "none"), ("s/3", "low"), ("s/3", None)):
        store.append("anna", decided(sample_id, label, note=f"{label}\n\u2028"))
    found = read_decisions(tmp_path / "review", "anna")
    assert list(found.last) == ["s/2", "s/1", "s/3"]
    assert found.labels == {"s/2": "low", "s/1": "none"}
    assert found.last["s/1"].note == "none\n\u2028"
    assert (found.damaged, found.warning) == ((), None)
    assert len(found.path.read_bytes().splitlines()) == 5


def test_torn_line_is_reported_and_loses_no_other(tmp_path):
    write_decisions(tmp_path, "anna", {"s/1": "high", "s/2": "low"})
    path = tmp_path / "anna.jsonl"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        before = read_decisions(tmp_path, "anna")
        write_decisions(tmp_path, "anna", {"s/3": "none"})
        after = read_decisions(tmp_path, "anna")
        assert path.read_bytes().startswith(whole[:length])  # never rewritten
        assert after.labels == before.labels | {"s/3": "none"}
        first = whole.index(b"\n")
        assert before.labels == {
            key: label for key, label, end in (("s/1", "high", first), ("s/2", "low", len(whole) - 1)) if length >= end
        }
        is_torn = length not in (0, first, first + 1, len(whole) - 1)
        assert before.damaged == after.damaged == (((1 if length < first else 2),) if is_torn else ())
        if is_torn:
            assert "anna.jsonl: no decision in line" in before.warning


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[1]", b"{}", b'{"sample_id": "", "label": null}', b"null"])
def test_lines_that_are_no_decision_are_reported(tmp_path, line):
    write_decisions(tmp_path, "anna", {"s/1": "high"})
    with (tmp_path / "anna.jsonl").open("ab") as file:
        file.write(line + b"\n")
    write_decisions(tmp_path, "anna", {"s/2": "low"})
    found = read_decisions(tmp_path, "anna")
    assert (list(found.labels), found.damaged) == (["s/1", "s/2"], (2,))


def test_writer_that_is_killed_loses_nothing_that_it_had_said_to_be_saved(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    said = [int(process.stdout.readline()) for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().splitlines()]
    assert process.wait() == -signal.SIGKILL
    found = read_decisions(tmp_path, "anna")
    assert set(found.labels) >= {f"s/{number}" for number in said}
    write_decisions(tmp_path, "anna", {"s/after": "low"})
    assert set(read_decisions(tmp_path, "anna").labels) == set(found.labels) | {"s/after"}


def test_two_reviewers_and_threads_that_write_at_once(tmp_path):
    store = DecisionStore(tmp_path)

    def work(reviewer: str, part: int) -> None:
        for number in range(10):
            store.append(reviewer, decided(f"s/{part}-{number}", "low"))
            time.sleep(0)

    threads = [threading.Thread(target=work, args=(name, part)) for name in ("anna", "王") for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(found.reviewer, len(found.labels), found.damaged) for found in read_all(tmp_path)] == [
        ("anna", 30, ()),
        ("王", 30, ()),
    ]


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("Anna", "Anna"),
        (" 王 小明 ", "王_小明"),
        ("../../etc/passwd", "etc_passwd"),
        ("..／..／x", "x"),
        ("a\\b\0c\nd", "a_b_c_d"),
        (".hidden", "hidden"),
        ("<img src=x onerror=alert(1)>", "img_src_x_onerror_alert_1"),
        ("x" * 300, "x" * 40),
    ],
)
def test_names_are_no_paths(name, clean):
    assert clean_reviewer(name) == clean
    assert clean_reviewer(clean) == clean


@pytest.mark.parametrize("name", ["", " ", "..", "/", "___"])
def test_names_of_nothing_are_refused(name):
    with pytest.raises(ConfigError, match="with a letter or digit"):
        clean_reviewer(name)
