"""From decisions to a label list that the builder reads; how far reviewers agree."""

from __future__ import annotations

import csv
import math

import pytest
from report_data import HOSTILE
from reviewers import write_decisions

from dataset_builders.build_config import LabelListSource
from dataset_builders.sources.label_list import read_label_list
from launch.cli import main
from launch.review.agreement import format_agreement, measure_agreement
from launch.review.store import read_all
from launch.review.votes import conflicts_path, export_labels

NAMES = [HOSTILE, "楼道 5.jpg", "楼道 6.jpg", "楼道 7.jpg", "楼道 8.jpg"]


def vote(directory, source="board_b", names=NAMES, **labels):
    """Labels by reviewer, one letter a photo: h, m, l, n, x (not a corridor), - (none)."""
    ids = {"h": "high", "m": "medium", "l": "low", "n": "none", "x": "not_corridor"}
    for reviewer, letters in labels.items():
        decisions = {
            f"{source}/{name}": ids[letter] for name, letter in zip(names, letters, strict=True) if letter != "-"
        }
        write_decisions(directory, reviewer, decisions)


def read_back(path, card):
    source = LabelListSource(kind="label_list", name="reviewed", role="train", path=path, images=path.parent)
    return {row.name: card.id_of(row.label) for row in read_label_list(source)}


def test_export_is_read_back_by_the_builder(run, card, tmp_path, capsys):
    vote(run / "review", anna="hmlnx")
    out = tmp_path / "labels.txt"
    assert main(["review", str(run), "--export", str(out)]) == 0
    expected = dict(zip(NAMES, ("high", "medium", "low", "none", "not_corridor"), strict=True))
    assert read_back(out, card) == expected
    assert out.read_bytes() == "".join(f"{name}\t{card.text_of(label)}\n" for name, label in expected.items()).encode()
    assert "5 photos of board_b" in capsys.readouterr().out
    assert len(conflicts_path(out).read_text(encoding="utf-8-sig").splitlines()) == 1


def test_majority_is_exported_and_the_rest_is_listed(run, card, tmp_path, capsys):
    # agree; 2 against 1; a tie; each another; one judge
    vote(run / "review", anna="hhhh-", bob="hhmmn", carl="hl-n-")
    out = tmp_path / "labels.txt"
    assert main(["review", str(run), "--export", str(out)]) == 1
    assert read_back(out, card) == {NAMES[0]: "high", NAMES[1]: "high", NAMES[4]: "none"}
    said = capsys.readouterr()
    assert "3 photos of board_b, 1 of them against a minority" in said.out
    assert "quadratic kappa" in said.out
    assert "2 photos are not exported" in said.err
    assert "anna: high, bob: medium" in said.err
    with conflicts_path(out).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["reason"]) for row in rows] == [
        (NAMES[2], "the reviewers disagree"),
        (NAMES[3], "no label has more than half of the votes"),
    ]
    assert [row["anna"] for row in rows] == [card.text_of("high")] * 2


def test_rest_is_the_test_list_of_the_next_run(run, card, tmp_path, capsys):
    vote(run / "review", anna="hm---", bob="hl---")
    out, rest = tmp_path / "labels.txt", tmp_path / "rest.txt"
    assert main(["review", str(run), "--export", str(out), "--rest", str(rest)]) == 1
    assert list(read_back(out, card)) == NAMES[:1]
    source = LabelListSource(kind="label_list", name="rest", role="test", path=rest, images=tmp_path)
    rows = read_label_list(source)
    everything = (run / "fusion/b-submit.txt").read_text(encoding="utf-8").splitlines()
    assert [row.name for row in rows] == [name for line in everything if (name := line.partition("\t")[0]) != HOSTILE]
    assert f"{len(rows)} photos of board_b that are not in it" in capsys.readouterr().out
    assert main(["review", str(run), "--rest", str(rest)]) == 2
    assert "give both" in capsys.readouterr().err


def test_a_decision_that_was_taken_back_does_not_count(run, card, tmp_path):
    vote(run / "review", anna="hm---")
    write_decisions(run / "review", "anna", {f"board_b/{NAMES[0]}": None})
    assert main(["review", str(run), "--export", str(tmp_path / "labels.txt")]) == 0
    assert read_back(tmp_path / "labels.txt", card) == {NAMES[1]: "medium"}


def test_source_is_chosen(run, card, tmp_path, capsys):
    command = ["review", str(run), "--export", str(tmp_path / "labels.txt")]
    assert main(command) == 2
    assert "no photo was decided by a reviewer yet" in capsys.readouterr().err
    vote(run / "review", anna="hh---")
    vote(run / "review", source="board_a", names=NAMES[1:2], anna="l")
    assert main(command) == 2
    assert "board_a, board_b" in (said := capsys.readouterr().err)
    assert "--source" in said
    assert main([*command, "--source", "board_c"]) == 2
    assert "no test source 'board_c'" in capsys.readouterr().err
    assert main([*command, "--source", "board_a"]) == 0
    assert read_back(tmp_path / "labels.txt", card) == {NAMES[1]: "low"}


def test_torn_lines_and_strange_photos_are_told(run, tmp_path, capsys):
    vote(run / "review", anna="hh---")
    write_decisions(run / "review", "anna", {"elsewhere/a.jpg": "high"})
    with (run / "review/anna.jsonl").open("ab") as file:
        file.write(b'{"sample')
    assert main(["review", str(run), "--export", str(tmp_path / "labels.txt")]) == 0
    said = capsys.readouterr().err
    assert "anna.jsonl: no decision in line 4" in said
    assert "1 decisions are of photos that this run does not have" in said


@pytest.mark.parametrize("name", ["a\tb.jpg", "a\nb.jpg", " a.jpg", "\ufeffa.jpg"])
def test_name_that_no_label_list_can_hold_is_listed(card, tmp_path, name):
    photos = {"s/1": ("s", name), "s/2": ("s", "b.jpg")}
    votes = {key: {"anna": ("high", "")} for key in photos}
    done = export_labels(tmp_path / "labels.txt", card, "s", votes, photos)
    assert list(done.labels) == ["b.jpg"]
    assert [conflict.why for conflict in done.conflicts] == ["the name cannot stand in a label list"]


def test_label_of_another_card_is_listed(card, tmp_path):
    done = export_labels(tmp_path / "l.txt", card, "s", {"s/1": {"anna": ("gone", "")}}, {"s/1": ("s", "a.jpg")})
    assert done.labels == {}
    assert "no label gone" in done.conflicts[0].why


def test_agreement_by_hand_and_by_scikit_learn(card, tmp_path):
    from sklearn.metrics import cohen_kappa_score

    names = [f"{n}.jpg" for n in range(10)]
    vote(tmp_path, "s", names, anna="hhhhhmmmmx", bob="hhhhmmmmlx")
    keys = [f"s/{name}" for name in names]
    (pair,) = measure_agreement(read_all(tmp_path), card, keys)
    assert (pair.reviewers, pair.photos, pair.same, pair.on_ladder) == (("anna", "bob"), 10, 8, 9)
    # By hand: 8 of 10 agree; by chance .5·.4 + .4·.4 + 0·.1 + .1·.1 = .37
    assert pair.kappa == pytest.approx((0.8 - 0.37) / (1 - 0.37))
    # Quadratic, on the nine: two are one rung apart; expected squared distance from the shares of 5h 4m and 4h 4m 1l.
    expected = (5 * (4 * 1 + 1 * 4) + 4 * (4 * 1 + 1 * 1)) / 81
    assert pair.quadratic_kappa == pytest.approx(1 - (2 / 9) / expected)
    anna, bob = (found.labels for found in read_all(tmp_path))
    order = list(card.label_ids)
    one, other = ([order.index(given[key]) for key in keys] for given in (anna, bob))
    assert pair.kappa == pytest.approx(cohen_kappa_score(one, other))
    assert "anna / bob" in format_agreement([pair])
    assert "80.0 %" in format_agreement([pair])


def test_agreement_where_there_is_none_to_measure(card, tmp_path):
    vote(tmp_path, "s", ["a", "b"], anna="hh", bob="hh", carl="--", dora="h-")
    write_decisions(tmp_path, "carl", {"s/c": "low"})
    found = measure_agreement(read_all(tmp_path), card, ["s/a", "s/b", "s/c"])
    by_pair = {pair.reviewers: pair for pair in found}
    assert len(by_pair) == 6
    same = by_pair["anna", "bob"]
    assert (same.photos, same.same) == (2, 2)
    assert math.isnan(same.kappa)
    assert math.isnan(same.quadratic_kappa)
    assert by_pair["anna", "carl"].photos == 0
    assert format_agreement([]).startswith("agreement: one reviewer alone")


def test_agreement_command(run, capsys):
    vote(run / "review", anna="hhhh-", bob="hhmmn")
    assert main(["review", str(run), "--agreement"]) == 0
    assert "anna / bob" in capsys.readouterr().out
