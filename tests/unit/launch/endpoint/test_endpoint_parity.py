"""The same model behind HTTP and in this process: the same rows, as far as the way to read allows."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builders.errors import ConfigError, FingerprintMismatch
from fusion.parity import measure_parity
from launch.cli import main
from launch.predict import PredictConfig, predict

SAID = ("有", "无", "人", "花盆", "什么也没有")  # by the base, before it is trained for the prompt


@pytest.fixture
def settings(settings, write_card):
    return settings | {"task": write_card(SAID)}


@pytest.fixture
def local(settings, tmp_path):
    def run(**changes):
        out = tmp_path / "local"
        engine = {"engine": "local", "adapter": "none", "endpoint": None, "endpoint_model": None}
        predict(PredictConfig(**settings | engine | {"batch_size": 1, "out": out} | changes))
        return out

    return run


def table_of(out) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("part-*"))])


def logps_of(out) -> np.ndarray:
    table = table_of(out)
    return np.column_stack([table[name] for name in table.column_names if name.startswith("logp_")])


def test_whole_answers_are_the_local_engine_exactly(settings, endpoint, model_server, write_card, local):
    """Answers share their first tokens, and some are the beginning of others."""
    settings |= {"task": write_card(("1", "11", "12", "2", "21")), "endpoint": endpoint, "endpoint_model": "tiny"}
    before = model_server.requests
    report = predict(PredictConfig(**settings, reading="whole"))
    assert report.complete
    assert not report.failed_rows
    # The trie's nodes: 1, 11, 12, 2, 21 and the prompt's end; twelve photos and the grey one.
    assert model_server.requests - before == 13 * 6
    np.testing.assert_allclose(logps_of(settings["out"]), logps_of(local(task=settings["task"])), atol=2e-4)


def test_first_tokens_are_close_and_never_below(settings, endpoint, local):
    settings |= {"endpoint": endpoint, "endpoint_model": "tiny"}
    predict(PredictConfig(**settings))
    found, exact = logps_of(settings["out"]), logps_of(local())
    assert (found > exact - 1e-4).all(), "without the end of the turn, a bound from above"
    parity = measure_parity(settings["out"], local())
    assert parity.photos == 12
    assert parity.max_difference < 0.02
    assert parity.agreement == 1
    table = table_of(settings["out"])
    np.testing.assert_allclose(table["off_label_mass"], 1 - np.exp(found).sum(axis=1), atol=1e-12)


def test_views_are_averaged_as_by_the_local_engine(settings, endpoint, local):
    settings |= {"views": "flip", "sample": 3}
    predict(PredictConfig(**settings, endpoint=endpoint, endpoint_model="tiny", reading="whole"))
    np.testing.assert_allclose(logps_of(settings["out"]), logps_of(local(views="flip", sample=3)), atol=2e-4)


def test_shared_first_tokens_are_refused(settings, endpoint, write_card):
    settings |= {"task": write_card(("1", "11", "12", "2", "21")), "endpoint": endpoint, "endpoint_model": "tiny"}
    with pytest.raises(ConfigError, match=r"begin with the token '[12]', which holds \d+%.*--reading whole with vLLM"):
        predict(PredictConfig(**settings))


def test_a_broken_photo_is_a_failed_row_and_a_lost_part_is_asked_for_again(
    settings, endpoint, model_server, tmp_path, capsys
):
    names = settings["photo_list"].read_text(encoding="utf-8")
    settings["photo_list"].write_text(f"missing.png\n{names}", encoding="utf-8")
    words = ["predict", "--endpoint", f"{endpoint}/", "--endpoint-model", "tiny", "--json"]
    for name, value in settings.items():
        words += ["--" + {"photo_list": "list"}.get(name, name).replace("_", "-"), str(value)]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["failed_rows"] == [{"sample_id": "list/missing.png", "error": "no such file"}]
    lost, requests = settings["out"] / "part-00001.parquet", model_server.requests
    before = lost.read_bytes()
    lost.unlink()
    assert main(words) == 1
    assert model_server.requests == requests + 1 + 5, "the grey photo and those of the part"
    assert lost.read_bytes() == before
    marker = json.loads((settings["out"] / "predictions.json").read_text(encoding="utf-8"))
    components = marker["components"]
    assert {key: components[key] for key in ("engine", "endpoint_model", "reading", "top_logprobs")} == {
        "engine": "endpoint",
        "endpoint_model": "tiny",
        "reading": "first-token",
        "top_logprobs": 20,
    }
    assert "127.0.0.1" not in json.dumps(marker)
    with pytest.raises(FingerprintMismatch, match="endpoint_model"):
        predict(PredictConfig(**settings, endpoint=endpoint, endpoint_model="other"))
    with pytest.raises(FingerprintMismatch, match="engine"):
        predict(PredictConfig(**settings, engine="local", adapter="none"))


def test_a_sample_is_spread_evenly(settings):
    from launch.predict.plan import photo_rows

    rows = photo_rows(PredictConfig(**settings))
    assert photo_rows(PredictConfig(**settings, sample=4)) == rows[::3]
    assert photo_rows(PredictConfig(**settings, sample=100)) == rows
