import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from fusion_data import make_card, simulate, write_dataset, write_predictions

from dataset_builders.errors import ConfigError, DataError
from dataset_builders.manifest import QUARANTINED, ManifestRow, read_manifest
from fusion.fit import FitSettings
from fusion.fuse import fuse
from fusion.fusion_model import load_fusion_model
from fusion.systems import SYSTEMS
from launch.cli import main

CARD = make_card()
QUICK = FitSettings(folds=3, resamples=100)
SIZES = {"t": 300, "board_a": 120, "board_b": 150}
BROKEN = 7  # position in board_b of the photo that base could not read


def _world(directory, *, shuffle=0, test_labels=True):
    """A data set with validation rows and two test sources, and both models' predictions, in any order."""
    rows, ids, base, looks = [], [], [], []
    for seed, (source, size) in enumerate(SIZES.items()):
        sample = simulate(seed, size)
        for position in range(size):
            row = ManifestRow(
                sample_id=f"{source}/楼 {position}.jpg",
                source=source,
                name=f"楼 {position}.jpg",
                position=position,
                split="val" if source == "t" else "test",
                label=CARD.label_ids[sample.labels_N[position]] if source == "t" or test_labels else None,
                group=position // 2 if source == "t" else 10_000 + position,
            )
            rows.append(row)
        ids += [f"{source}/楼 {position}.jpg" for position in range(size)]
        base.append(sample.base_logps_NK)
        looks.append(sample.looks_SN2[0])
    quarantined = rows.index(next(row for row in rows if row.sample_id == "board_b/楼 3.jpg"))
    rows[quarantined] = replace(rows[quarantined], status=QUARANTINED, reason="zero bytes")
    order = np.random.default_rng(shuffle).permutation(len(ids)) if shuffle else np.arange(len(ids))
    order = order[order != quarantined]
    errors = [""] * len(ids)
    errors[ids.index(f"board_b/楼 {BROKEN}.jpg")] = "image file is\ntruncated"
    look_errors = [""] * len(ids)
    look_errors[ids.index("board_b/楼 9.jpg")] = "out of memory"

    def write(name, logps, answers, why):
        stacked = np.concatenate(logps)[order]
        names, reasons = [ids[i] for i in order], [why[i] for i in order]
        return write_predictions(directory / name, names, stacked, answers, errors=reasons)

    return (
        write_dataset(directory / "data", rows),
        CARD,
        write("base", base, CARD.label_ids, errors),
        {"second": write("second", looks, ("yes", "no"), look_errors)},
    )


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world")
    return fuse(*_world(directory), directory / "out", settings=QUICK), directory / "out"


def _submission(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]


def test_each_test_source_gets_every_name_once_in_order(fused):
    result, out = fused
    assert {path.name for path in out.iterdir()} == {
        "fusion.json",
        "score.json",
        "scores.txt",
        "decisions.parquet",
        "review.csv",
        "b-submit.txt",
        "fallback.txt",
        "submit-board_a.txt",
        "fallback-board_a.txt",
    }
    assert result.submissions["board_b"].name == "b-submit.txt"
    for source, path in result.submissions.items():
        assert [name for name, _ in _submission(path)] == [f"楼 {n}.jpg" for n in range(SIZES[source])]
        assert {text for _, text in _submission(path)} <= {label.text for label in CARD.labels}


def test_what_could_not_be_read_gets_the_fallback_label_and_is_listed(fused):
    result, out = fused
    assert (out / "fallback.txt").read_text(encoding="utf-8").splitlines() == [
        "楼 3.jpg\tquarantined: zero bytes",
        f"楼 {BROKEN}.jpg\timage file is truncated",
    ]
    assert (out / "fallback-board_a.txt").read_text() == ""
    rows = _submission(out / "b-submit.txt")
    assert [rows[3][1], rows[BROKEN][1]] == [CARD.text_of("green")] * 2
    assert len(result.fallbacks) == 2


def test_review_lists_unread_photos_first_and_says_what_the_sets_cover(fused):
    result, out = fused
    lines = list(csv.DictReader((out / "review.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [(line["name"], line["reason"]) for line in lines[:2]] == [
        ("楼 3.jpg", "not read: quarantined: zero bytes"),
        (f"楼 {BROKEN}.jpg", "not read: image file is truncated"),
    ]
    costs = [float(line["expected_cost"]) for line in lines[2:]]
    assert costs == sorted(costs, reverse=True)
    review = result.scores["review"]
    assert sum(review["queued"].values()) == len(lines)
    assert review["alpha"] == 0.05
    for source, unread in (("board_a", 0), ("board_b", 2)):
        assert review["coverage"][source]["rows"] == SIZES[source] - unread
        assert review["coverage"][source]["coverage"] == pytest.approx(0.95, abs=0.06)
    assert "photos to review (review.csv)" in result.table


def test_decisions_hold_every_system_and_a_failed_second_look_changes_nothing(fused):
    result, out = fused
    table = pq.read_table(out / "decisions.parquet").to_pylist()
    assert len(table) == SIZES["board_a"] + SIZES["board_b"]
    by_id = {row["sample_id"]: row for row in table}
    blind = by_id["board_b/楼 9.jpg"]
    assert blind["second_coefficient"] == 1
    assert np.isnan(blind["second_positive"])
    assert blind["second_error"] == "out of memory"
    for k in CARD.label_ids:
        assert blind[f"p_fused_{k}"] == pytest.approx(blind[f"p_base_{k}"])
    broken = by_id[f"board_b/楼 {BROKEN}.jpg"]
    assert [broken[name] for name in SYSTEMS] == [None] * 6
    assert broken["submitted"] == "green"
    texts = dict(_submission(out / "b-submit.txt"))
    for row in table:
        if row["source"] == "board_b":
            assert texts[row["name"]] == CARD.text_of(row["submitted"])
            assert row["submitted"] == (row[result.model.submitted] or "green")
            assert sum(row[f"p_fused_{k}"] for k in CARD.label_ids) == pytest.approx(1) or row["base_error"]


def test_scores_agree_with_what_evaluate_says_about_the_submission(fused, tmp_path, capsys):
    _, out = fused
    truth = simulate(2, SIZES["board_b"]).labels_N
    (tmp_path / "truth.txt").write_text(
        "".join(f"楼 {n}.jpg\t{CARD.labels[k].text}\n" for n, k in enumerate(truth)), encoding="utf-8"
    )
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump(CARD.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
    words = ["evaluate", str(out / "b-submit.txt"), str(tmp_path / "truth.txt"), "--task", str(card)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["systems"]["submission"]
    expected = json.loads((out / "score.json").read_text(encoding="utf-8"))
    ours = expected["test"]["board_b"]["systems"][expected["submitted"]]
    assert found["score"] == pytest.approx(ours["score"])
    assert found["per_class"]["red"]["f1"] == pytest.approx(ours["per_class"]["red"]["f1"])
    assert main(words) == 0
    assert f"{ours['score']:.4f}" in capsys.readouterr().out
    assert main([*words, "--resamples", "0"]) == 2


def test_the_table_says_which_system_and_decision_each_row_is(fused):
    result, out = fused
    table = (out / "scores.txt").read_text(encoding="utf-8")
    assert table == result.table
    for section in ("validation, cross-fitted: 300 photos", "test source board_a: 120", "test source board_b: 150"):
        part = table[table.index(section) :].split("paired differences")[0]
        for words in ("chance", "majority class", "base only", "hard override", "fused"):
            assert words in part
        assert part.count("rule") == part.count("argmax") == 3
        assert sum(line.startswith("*") for line in part.splitlines()) == 1
    assert "McNemar p" in table


def test_fused_differences_are_against_base_with_the_same_decision(fused):
    differences = fused[0].scores["test"]["board_b"]["differences"]
    pairs = [(d["system"], d["against"]) for d in differences]
    for decision in ("argmax", "rule"):
        assert (f"fused_{decision}", f"base_{decision}") in pairs
        assert (f"override_{decision}", f"base_{decision}") in pairs
    systems = fused[0].scores["test"]["board_b"]["systems"]
    for d in differences:
        assert d["score"] == pytest.approx(systems[d["system"]]["score"] - systems[d["against"]]["score"])
        assert d["score_interval"][0] <= d["score_interval"][1]


def test_the_model_reads_back_and_applies_again(fused, tmp_path):
    result, out = fused
    assert load_fusion_model(out / "fusion.json") == result.model
    assert result.model.parameters.specialists[0].prior == pytest.approx(1 / 3)
    assert result.model.fitted_on.second_looks["second"].prior_source == "second.json"
    specialist = result.model.parameters.specialists[0]
    override = specialist.coefficient.model_copy(update={"cap": np.inf, "exponent": np.inf})
    parameters = result.model.parameters.model_copy(
        update={"specialists": (specialist.model_copy(update={"coefficient": override}),)}
    )
    endless = result.model.model_copy(update={"parameters": parameters})
    endless.save(tmp_path / "fusion.json")
    written = json.loads((tmp_path / "fusion.json").read_text())["parameters"]["specialists"][0]
    assert (written["name"], written["coefficient"]["cap"]) == ("second", "Infinity")
    assert load_fusion_model(tmp_path / "fusion.json") == endless
    (tmp_path / "fusion.json").write_text('{"version": 1}')
    with pytest.raises(DataError, match="parameters: Field required"):
        load_fusion_model(tmp_path / "fusion.json")


def test_the_order_and_sharding_of_predictions_have_no_influence(fused, tmp_path):
    _, out = fused
    fuse(*_world(tmp_path, shuffle=5), tmp_path / "out", settings=QUICK)
    for path in out.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_without_test_labels_the_validation_table_remains(tmp_path):
    result = fuse(*_world(tmp_path, test_labels=False), tmp_path / "out", settings=QUICK)
    assert result.scores["test"] == {}
    assert "cross-fitted" in result.table
    assert (tmp_path / "out" / "b-submit.txt").is_file()


def test_the_command_prints_the_table_and_lists_fallbacks_on_stderr(tmp_path, capsys):
    dataset, card, base, second = _world(tmp_path)
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(card.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
    words = [
        "fuse",
        dataset,
        "--task",
        path,
        "--base",
        base,
        "--specialist",
        second["second"],
        "--out",
        tmp_path / "out",
    ]
    words = [
        *map(str, words),
        "--resamples",
        "50",
        "--folds",
        "2",
        "--submit-source",
        "board_a",
        "--decision",
        "argmax",
    ]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert (tmp_path / "out" / "scores.txt").read_text(encoding="utf-8") in printed.out
    assert f"board_b/楼 {BROKEN}.jpg: image file is truncated" in printed.err
    assert len(_submission(tmp_path / "out" / "b-submit.txt")) == SIZES["board_a"]
    assert (tmp_path / "out" / "submit-board_b.txt").is_file()
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["submissions"]["board_a"] == str(tmp_path / "out" / "b-submit.txt")
    assert found["fallbacks"][0]["source"] == "board_b"
    assert found["scores"] == json.loads((tmp_path / "out" / "score.json").read_text(encoding="utf-8"))
    assert "image file is truncated" in printed.err
    assert main([*words, "--folds", "1"]) == 2
    assert "--folds" in capsys.readouterr().err
    assert main([*words, "--label-errors", "0.5"]) == 2
    assert "--label-errors" in capsys.readouterr().err
    before = json.loads((tmp_path / "out" / "score.json").read_text())["review"]
    assert before["label_errors"] == 0
    assert main([*words, "--label-errors", "0.05"]) == 0
    after = json.loads((tmp_path / "out" / "score.json").read_text())["review"]
    assert after["label_errors"] == 0.05
    assert after["thresholds"]["red"]["score"] <= before["thresholds"]["red"]["score"]


def test_mistakes_are_named(tmp_path):
    dataset, card, base, second = _world(tmp_path)
    with pytest.raises(ConfigError, match=r"no test source 'board_c'.*board_a, board_b"):
        fuse(dataset, card, base, second, tmp_path / "out", submit_source="board_c", settings=QUICK)
    with pytest.raises(DataError, match="no such file"):
        fuse(dataset, card, tmp_path / "nowhere", second, tmp_path / "out", settings=QUICK)
    with pytest.raises(DataError, match="right stage"):
        fuse(dataset, card, second["second"], {"second": base}, tmp_path / "out", settings=QUICK)
    with pytest.raises(ConfigError, match="no specialist 'third'"):
        fuse(dataset, card, base, {"third": base}, tmp_path / "out", settings=QUICK)
    with pytest.raises(ConfigError, match="give predictions of second"):
        fuse(dataset, card, base, {}, tmp_path / "out", settings=QUICK)
    (dataset / "second.json").write_text("{}")
    with pytest.raises(DataError, match="positive_rows"):
        fuse(dataset, card, base, second, tmp_path / "out", settings=QUICK)
    assert not (tmp_path / "out").exists()


def test_the_shipped_card_works(tmp_path):
    from pathlib import Path

    from dataset_builders.task_card import load_task_card

    card = load_task_card(Path(__file__).parents[3] / "recipes" / "tasks" / "corridor.yaml")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 60)
    rows = [
        ManifestRow(f"s/{n}", "s" if n < 40 else "b", str(n), n, "val" if n < 40 else "test", label=card.label_ids[k])
        for n, k in enumerate(labels)
    ]
    logps = np.log(np.full((60, 5), 0.1))
    logps[np.arange(60), labels] = np.log(0.55)
    looks = np.log(np.where(labels[:, None] == 0, [0.9, 0.1], [0.1, 0.9]))
    ids = [row.sample_id for row in rows]
    result = fuse(
        write_dataset(tmp_path / "data", rows),
        card,
        write_predictions(tmp_path / "base", ids, logps, card.label_ids),
        {"high_risk": write_predictions(tmp_path / "second", ids, looks, ("present", "absent"))},
        tmp_path / "out",
        settings=QUICK,
    )
    assert result.scores["test"]["b"]["systems"]["fused_argmax"]["score"] == pytest.approx(6.5)
    assert (
        result.model.fitted_on.second_looks["high_risk"].prior_source == "fitted"
    )  # the marker of this card's specialist is not there


def test_several_specialists_by_name(tmp_path, capsys):
    """A second specialist for red or amber: its own columns, parameters and priors; the words may come in any order."""
    card = make_card(cut=("red", "amber"))
    dataset, _, base, second = _world(tmp_path)
    (dataset / "cut.json").write_text(json.dumps({"train": {"positive_rows": 30, "negative_rows": 30}}))
    samples = [simulate(seed, size, targets=((0,), (0, 1))) for seed, size in enumerate(SIZES.values())]
    ids = [f"{source}/楼 {n}.jpg" for source, size in SIZES.items() for n in range(size)]
    looks = np.concatenate([sample.looks_SN2[1] for sample in samples])
    cut = write_predictions(tmp_path / "cut", ids, looks, ("yes", "no"))
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(card.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
    words = ["fuse", dataset, "--task", path, "--base", base, "--out", tmp_path / "out", "--resamples", "50"]
    words = [*map(str, words), "--specialist", f"cut={cut}"]
    assert main([*words, "--specialist", f"second={second['second']}"]) == 0
    model = load_fusion_model(tmp_path / "out" / "fusion.json")
    assert [specialist.name for specialist in model.parameters.specialists] == ["second", "cut"]
    assert [specialist.prior for specialist in model.parameters.specialists] == pytest.approx([1 / 3, 1 / 2])
    assert model.targets == {"second": ("red",), "cut": ("red", "amber")}
    assert set(model.calibration) == {"base", "second", "cut"}
    columns = pq.read_schema(tmp_path / "out" / "decisions.parquet").names
    for name in ("second", "cut"):
        assert {f"{name}_positive", f"{name}_coefficient", f"{name}_error"} <= set(columns)
    capsys.readouterr()
    for wrong, message in (("third=x", "no specialist 'third'"), (f"cut={cut}", "twice"), ("bare", "write NAME=DIR")):
        assert main([*words, "--specialist", wrong]) == 2
        assert message in capsys.readouterr().err
    fuse(dataset, card, base, {"cut": cut}, tmp_path / "alone", settings=QUICK)
    assert "second_positive" not in pq.read_schema(tmp_path / "alone" / "decisions.parquet").names


def test_a_gain_in_doubt_is_held_back_unless_forced(tmp_path):
    """A weak second look on 300 rows: no gain is sure at so high a level."""
    dataset, card, base, second = _world(tmp_path)
    ids = [f"{source}/楼 {n}.jpg" for source, size in SIZES.items() for n in range(size)]
    weak = np.concatenate([simulate(n, size, specialist=1.2).looks_SN2[0] for n, size in enumerate(SIZES.values())])
    second = {"second": write_predictions(tmp_path / "weak", ids, weak, ("yes", "no"))}
    strict = QUICK.model_copy(update={"guard_level": 0.9999, "decision": "rule"})
    result = fuse(dataset, card, base, second, tmp_path / "out", settings=strict)
    guard = result.model.guard
    assert guard.low <= guard.gain <= guard.high
    assert guard.holds_back == (guard.low < 0)
    assert guard.holds_back
    assert result.model.submitted == "base_rule"
    assert result.scores["submitted"] == "base_rule"
    assert result.scores["guard"]["low"] == guard.low
    assert result.scores["chosen"] == {"base": "base_rule", "override": "override_rule", "fused": "fused_rule"}
    assert "so base is submitted (--force-fusion submits fused)" in result.table
    assert any(note.startswith("guard: ") for note in result.notes)
    table = pq.read_table(tmp_path / "out" / "decisions.parquet").to_pylist()
    assert all(row["submitted"] == (row["base_rule"] or "green") for row in table)
    forced = strict.model_copy(update={"force_fusion": True})
    result = fuse(dataset, card, base, second, tmp_path / "forced", settings=forced)
    assert result.model.submitted == "fused_rule"
    assert "but was forced" in result.table
    assert load_fusion_model(tmp_path / "forced" / "fusion.json").guard.forced


def test_an_informative_specialist_passes_the_guard(fused):
    result, _ = fused
    assert result.model.guard.low > 0
    assert result.model.submitted.startswith("fused_")
    assert "so fused is submitted" in result.table


def test_few_rows_give_json_that_any_program_reads(tmp_path):
    """Thresholds are infinite there, and JSON has no such number."""
    dataset, card, *_ = _world(tmp_path)
    rows = [row for row in read_manifest(dataset) if row.split == "test" or row.position < 12]
    write_dataset(tmp_path / "few", rows)
    keep = {row.sample_id for row in rows if row.status != QUARANTINED}
    few = {}
    for name, answers in (("base", card.label_ids), ("second", ("yes", "no"))):
        table = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / name).glob("*.parquet")))
        table = table.filter(pc.is_in(table["sample_id"], value_set=pa.array(sorted(keep))))
        logps = np.column_stack([table[f"logp_{answer}"].to_numpy() for answer in answers])
        ids, errors = table["sample_id"].to_pylist(), table["error"].to_pylist()
        few[name] = write_predictions(tmp_path / f"few_{name}", ids, logps, answers, errors=errors)
    fuse(tmp_path / "few", card, few["base"], {"second": few["second"]}, tmp_path / "out", settings=QUICK)
    text = (tmp_path / "out" / "score.json").read_text(encoding="utf-8")
    scores = json.loads(text, parse_constant=lambda word: pytest.fail(f"not JSON: {word}"))
    assert scores["review"]["thresholds"]["red"]["score"] == "Infinity"


def test_another_submit_source_leaves_no_submission_of_the_last_one(tmp_path):
    world = _world(tmp_path)
    fuse(*world, tmp_path / "out", settings=QUICK)
    assert (tmp_path / "out" / "submit-board_a.txt").is_file()
    fuse(*world, tmp_path / "out", settings=QUICK, submit_source="board_a")
    assert {path.name for path in (tmp_path / "out").glob("*submit*.txt")} == {"b-submit.txt", "submit-board_b.txt"}
    assert not (tmp_path / "out" / "fallback-board_a.txt").exists()
