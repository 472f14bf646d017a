"""What the report says: figures are those of the run, nothing is cut silently, and nothing of the data is markup."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
from report_data import HOSTILE, REASON, ROOT
from report_page import Page, report_of

from launch.report import write_report
from launch.report.page import render_page
from launch.report.run_files import find_run


def test_scores_are_those_of_the_run(full_run, tmp_path):
    scores = json.loads((full_run / "fusion/score.json").read_text(encoding="utf-8"))
    report, page = report_of(full_run, tmp_path)
    assert [(s.source, s.is_fit) for s in report.fusion.sets] == [("board_b", False), ("board_a", False), ("", True)]
    for found in (*scores["test"].values(), scores["validation"]):
        for system in found["systems"].values():
            assert f"{system['score']:.3f}" in page.text
            low, high = system["score_interval"]
            assert f"[{low:.3f}, {high:.3f}]" in page.text
    per_class = scores["test"]["board_b"]["systems"][scores["chosen"]["override"]]["per_class"]
    for figures in per_class.values():
        for name in ("precision", "recall", "f1"):
            assert f"{figures[name]:.3f}" in page.text


def test_changes_and_mistakes_are_counted_as_in_the_decisions(full_run, tmp_path):
    report, page = report_of(full_run, tmp_path, photos=3)
    scores = json.loads((full_run / "fusion/score.json").read_text(encoding="utf-8"))
    rows = pq.read_table(full_run / "fusion/decisions.parquet").to_pylist()
    base, fused = scores["chosen"]["base"], scores["chosen"]["fused"]
    flipped = [row for row in rows if row[base] and row[base] != row[fused]]
    counts = {album.key: album.photos for album in report.fusion.changes}
    assert counts["broken"] == sum(row[base] == row["label"] for row in flipped)
    assert counts["mended"] == sum(row[fused] == row["label"] for row in flipped) > 3
    assert sum(counts.values()) == len(flipped) == report.fusion.flipped
    moved = np.array(report.fusion.change_counts)
    assert moved.sum() - np.trace(moved) == len(flipped)
    wrong = sum(row["submitted"] != row["label"] for row in rows)
    assert report.fusion.mistakes.photos == wrong
    assert all(len(album.cards) == min(album.photos, 3) for album in report.fusion.albums)
    assert f"3 of {counts['mended']} shown" in page.text
    assert f"3 of {wrong} shown" in page.text


def test_most_costly_mistakes_come_first(full_run, tmp_path, card):
    report, _ = report_of(full_run, tmp_path, photos=1000)
    ids = card.label_ids
    weights = [label.weight for label in card.labels]
    costs = [
        weights[ids.index(c.truth)] * abs(ids.index(c.truth) - ids.index(c.submitted))
        for c in report.fusion.mistakes.cards
    ]
    assert costs == sorted(costs, reverse=True)
    assert all(c.truth != c.submitted for c in report.fusion.mistakes.cards)


def test_hostile_names_and_texts_are_no_markup(full_run, tmp_path):
    report, page = report_of(full_run, tmp_path, photos=1000)
    shown = {c.sample_id: c for album in report.fusion.changes for c in album.cards}
    assert shown[f"board_b/{HOSTILE}"].truth == shown[f"board_b/{HOSTILE}"].fused == "high"
    assert page.text.count(HOSTILE) >= 1
    assert page.text.count(REASON) >= 3  # quarantined, not read, answered by the fallback label
    assert "alert(3)" in page.text  # of a recipe
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or name not in attributes, value


def test_all_ids_are_there_once_and_all_references_lead_somewhere(full_run, tmp_path):
    _, page = report_of(full_run, tmp_path)
    assert len(page.ids) == len(set(page.ids))
    for _, attributes in page.tags:
        if target := attributes.get("aria-labelledby"):
            assert target in page.ids
        if (target := attributes.get("href") or "").startswith("#"):
            assert target[1:] in page.ids


def test_unknown_labels_are_said_and_no_accuracy_on_test_photos_is_invented(bare_run, tmp_path):
    report, page = report_of(bare_run, tmp_path)
    assert [s.is_fit for s in report.fusion.sets] == [True]
    assert report.fusion.mistakes is None
    assert [album.key for album in report.fusion.changes] == ["unknown"]
    for words in (
        "The labels of the test photos are not known",
        "No test photo has a known label",
        "true label unknown",
    ):
        assert words in page.text
    for word in ("✓", "✗", "Wrong before, right after"):
        assert word not in page.text
    assert len(report.fusion.review) == 24
    assert "No training log of base was found" in page.text


def test_curves_of_all_stages_and_folds(full_run, tmp_path):
    report, page = report_of(full_run, tmp_path)
    assert [(s.name, list(s.folds)) for s in report.curves] == [
        (name, ["fold-1", "fold-2"]) for name in ("base", "high_risk", "clutter")
    ]
    lines = [attributes["points"] for tag, attributes in page.tags if tag == "polyline"]
    assert len(lines) == 3 * (1 + 1 + 2)  # training, validation, two folds
    for line in lines:
        points = np.array([[float(n) for n in point.split(",")] for point in line.split()])
        assert (points >= [44, 10]).all()
        assert (points <= [342, 190]).all()
        assert (np.diff(points[:, 0]) >= 0).all()


def test_what_was_left_out_is_listed_with_reasons(full_run, tmp_path):
    report, page = report_of(full_run, tmp_path, rows=1)
    kinds = {(kind.key, kind.where): kind.photos for kind in report.data.left_out}
    failed = {("failed", stage): 1 for stage in ("base", "high_risk", "clutter")}
    fallbacks = {("fallback", "fallback.txt"): 2}
    assert kinds == {("quarantined", ""): 1} | failed | fallbacks
    assert "1 of 2 shown" in page.text


def test_photos_that_are_gone_leave_a_place(full_run, tmp_path):
    shutil.copytree(full_run.parent, tmp_path / "copy")
    for path in (tmp_path / "copy/data/images").iterdir():
        path.write_bytes(b"no photo")
    files = find_run(tmp_path / "copy/runs", data=tmp_path / "copy/data")
    report = write_report(files, tmp_path / "page.html")
    assert report.thumbnails == {}
    assert "photo cannot be shown" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_run_without_fusion_shows_what_there_is(full_run, tmp_path):
    run = tmp_path / "runs"
    shutil.copytree(full_run, run, ignore=shutil.ignore_patterns("fusion"))
    report, page = report_of(run, tmp_path)
    assert report.fusion is None
    assert "Fusion has not been run yet" in page.text
    assert 'id="training"' in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_same_run_gives_the_same_bytes(full_run, tmp_path):
    for name in ("a", "b"):
        write_report(find_run(full_run), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_text_is_there_in_both_languages(full_run, bare_run, tmp_path):
    for number, run in enumerate((full_run, bare_run)):
        write_report(find_run(run), tmp_path / f"{number}.html")
        html = (tmp_path / f"{number}.html").read_text(encoding="utf-8")
        assert html.count('class="en" lang="en"') == html.count('class="zh" lang="zh-CN"') > 100
    for path in (ROOT / "launch/report/templates").glob("*.jinja"):
        for english, chinese in re.findall(r'\bt\("([^"]*)", "([^"]*)"', path.read_text(encoding="utf-8")):
            assert re.search(r"[\u4e00-\u9fff]", chinese), (path.name, english)
            assert sorted(re.findall(r"{(\w+)}", english)) == sorted(re.findall(r"{(\w+)}", chinese)), english


def test_heat_maps_stand_in_the_cards_of_their_photos(full_run, tmp_path):
    report, _ = report_of(full_run, tmp_path, photos=2)
    changed = report.fusion.changes[0].cards[0].sample_id
    uri = report.thumbnails[changed]
    page = Page(render_page(replace(report, heat_maps={changed: [("high_risk", uri)]})))
    assert page.text.count("where high_risk looks") >= 1
    assert {"src": uri, "alt": f"high_risk: {changed}", "loading": "lazy", "decoding": "async"} in [
        attributes for tag, attributes in page.tags if tag == "img"
    ]
