import pytest
import yaml
from fusion_data import make_card
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_builders.errors import ConfigError, DataError
from fusion.evaluate import evaluate
from fusion.submission import LabelFile, read_label_file, read_submission, write_submission
from launch.cli import main

CARD = make_card()
# Names as lists spell them: spaces inside, Chinese, other scripts; no control characters, no spaces around.
NAMES = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(lambda n: n == n.strip()),
    min_size=1,
    max_size=20,
    unique=True,
)


@settings(deadline=None)
@given(st.data(), NAMES)
def test_a_submission_reads_back_as_it_was_written(tmp_path_factory, data, names):
    labels = data.draw(st.lists(st.sampled_from(CARD.label_ids), min_size=len(names), max_size=len(names)))
    path = tmp_path_factory.mktemp("submission") / "b-submit.txt"
    names = [f"{name}.jpg" for name in names]
    write_submission(path, names, labels, CARD)
    written = LabelFile(tuple(names), tuple(labels))
    assert read_label_file(path, CARD) == written
    assert read_submission(path, written, CARD) == written
    assert path.read_bytes().count(b"\n") == len(names)


def test_the_file_is_plain_utf8_with_the_label_texts(tmp_path):
    write_submission(tmp_path / "s.txt", ["楼 道 1.jpg", "b.jpg"], ["red", "grey"], CARD)
    assert (tmp_path / "s.txt").read_bytes() == "楼 道 1.jpg\t红 色\nb.jpg\t灰\n".encode()


@pytest.mark.parametrize("names", [["a", "a"], ["a\tb", "c"], ["a\nb", "c"], ["a\rb", "c"], ["only one"]])
def test_names_that_the_format_cannot_hold_are_refused_before_anything_is_written(tmp_path, names):
    with pytest.raises(DataError):
        write_submission(tmp_path / "s.txt", names, ["red", "red"], CARD)
    assert not list(tmp_path.iterdir())


def _truth(tmp_path, text="a.jpg\t红 色\nb.jpg\t绿\nc.jpg\t灰\nd.jpg\t黄\n"):
    path = tmp_path / "truth.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _findings(tmp_path, text):
    path = tmp_path / "s.txt"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(DataError) as caught:
        evaluate([path], _truth(tmp_path), CARD, resamples=10)
    return str(caught.value).splitlines()


def test_every_mistake_of_a_submission_is_listed_with_its_row(tmp_path):
    lines = _findings(tmp_path, "b.jpg\t绿\na.jpg\t红 色\n\nb.jpg\t绿\nx.jpg\t灰\nc.jpg\tgrey\nc.jpg\n")
    assert lines[0].endswith("not a complete submission (7 findings):")
    for words in (
        "row 3: empty",
        "row 7: expected name<TAB>label, got 1 fields",
        "row 6: unknown label 'grey'",
        "row 4: 'b.jpg' stands already in row 1",
        "row 5: 'x.jpg' is not in the list",
        "missing: 'd.jpg' (row 4 of the list)",
        "row 2: 'a.jpg' stands after 'b.jpg'",
    ):
        assert sum(words in line for line in lines) == 1, words


@pytest.mark.parametrize("text", ["", "\n", "a.jpg\t红 色\n"])
def test_short_submissions_miss_names(tmp_path, text):
    assert any("missing: 'd.jpg'" in line for line in _findings(tmp_path, text))


def test_byte_order_mark_crlf_aliases_and_gbk_are_fine_in_the_truth(tmp_path):
    plain = read_label_file(_truth(tmp_path), CARD)
    text = "a.jpg\tcrimson\r\nb.jpg\tgreen\r\nc.jpg\t灰\r\nd.jpg\t黄"
    for encoded in (text.encode("utf-8-sig"), text.encode("gbk")):
        assert read_label_file(_truth(tmp_path, encoded), CARD) == plain
    blank = "\na.jpg\tcrimson\n\nb.jpg\tgreen\nc.jpg\t灰\nd.jpg\t黄\n\n"
    assert read_label_file(_truth(tmp_path, blank), CARD) == plain


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty; expected name<TAB>label"),
        ("a.jpg\n", "got 1 fields"),
        ("a.jpg\tviolet\n", "row 1: unknown label 'violet'"),
        ("a.jpg\t绿\na.jpg\t绿\n", "row 2: 'a.jpg' stands already in row 1"),
    ],
)
def test_a_wrong_truth_is_refused(tmp_path, text, words):
    with pytest.raises(DataError, match=r"not a complete label file|empty") as caught:
        read_label_file(_truth(tmp_path, text), CARD)
    assert words in str(caught.value)


def test_scores_a_submission(tmp_path):
    (tmp_path / "s.txt").write_text("a.jpg\t红 色\nb.jpg\t绿\nc.jpg\t绿\nd.jpg\t黄\n", encoding="utf-8")
    found = evaluate([tmp_path / "s.txt"], _truth(tmp_path), CARD, resamples=50)
    figures = found["systems"]["submission"]
    assert figures["score"] == pytest.approx(2.0 + 1.5 + 2 / 3)
    assert figures["accuracy"] == 0.75
    assert found["max_score"] == 5.5
    low, high = figures["score_interval"]
    assert 0 <= low <= high <= 5.5
    perfect = evaluate([_truth(tmp_path)], _truth(tmp_path), CARD, resamples=50)
    assert perfect["systems"]["submission"]["score"] == 5.5


def test_several_submissions_are_compared_with_the_first(tmp_path, capsys):
    truth = _truth(tmp_path)
    first, second = tmp_path / "fused_a.txt", tmp_path / "b.txt"
    first.write_text("a.jpg\t红 色\nb.jpg\t绿\nc.jpg\t绿\nd.jpg\t黄\n", encoding="utf-8")
    second.write_text(truth.read_text(encoding="utf-8"), encoding="utf-8")
    found = evaluate([first, second], truth, CARD, resamples=50)
    assert list(found["systems"]) == [str(first), str(second)]
    (difference,) = found["differences"]
    assert (difference["system"], difference["against"]) == (str(second), str(first))
    assert difference["score"] == pytest.approx(1 + 1 / 3)
    assert difference["score_interval"][0] <= difference["score"] <= difference["score_interval"][1]
    assert 0 < difference["mcnemar_p"] <= 1
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump(CARD.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
    words = ["evaluate", str(first), str(second)]
    for more in ([str(truth)], ["--labels", str(truth)]):
        assert main([*words, *more, "--task", str(card), "--resamples", "50"]) == 0
        printed = capsys.readouterr().out
        assert f"{second} − {first}" in printed
        assert "McNemar p" in printed
    assert main(["evaluate", str(first), "--task", str(card)]) == 2
    assert "one file is too few" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="twice"):
        evaluate([first, first], truth, CARD, resamples=10)
