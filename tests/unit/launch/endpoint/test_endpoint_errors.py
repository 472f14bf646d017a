"""Servers that are absent, busy, choosy or of another kind: one message each, and nothing invented."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from model_server import answering, serve

from dataset_builders.errors import ConfigError, StepError
from launch.cli import main
from launch.predict import PredictConfig, predict
from launch.predict.endpoint import client

GOOD = answering(("1", -0.5), ("2", -1.5), ("3", -2.5), ("4", -3.5), ("5", -4.5), ("x", -5.5))
MODELS = {"data": [{"id": "tiny"}, {"id": "large"}]}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client, "LONGEST_PAUSE_S", 0.01)


class Scripted:
    """Answers chat completions by a function of their number, from 0; number 0 is the grey test photo."""

    def __init__(self, script) -> None:
        self._script, self.asked, self.bodies, self.authorization = script, 0, [], None

    def answer(self, path, body):
        if path == "/v1/models":
            return MODELS
        number, self.asked = self.asked, self.asked + 1
        self.bodies.append(body)
        return self._script(number) or GOOD


@pytest.fixture
def ask(settings):
    """Run against a script, one photo at a time."""

    def run(script, **changes):
        server = Scripted(script)
        with serve(server) as url:
            found = settings | {"endpoint": url, "endpoint_model": "tiny", "in_flight": 1} | changes
            return predict(PredictConfig(**found)), server

    return run


def refuse(status: int, message: str, *numbers: int, **headers: str):
    answer = (status, headers, {"error": {"message": message}})
    return lambda number: answer if not numbers or number in numbers else None


def test_absent_server(settings):
    found = settings | {"endpoint": "http://127.0.0.1:9/v1", "endpoint_model": "tiny"}
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"does not answer .*127.0.0.1:9.*Start the server, or mend --endpoint"):
        predict(PredictConfig(**found))
    assert time.monotonic() - started < 5
    assert not list(settings["out"].glob("*"))


def test_unknown_model(ask):
    with pytest.raises(ConfigError, match=r"HTTP 404: no such model.*--endpoint-model.* models tiny, large"):
        ask(refuse(404, "no such model"))


def test_wrong_key(ask, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sesame")
    with pytest.raises(ConfigError, match=r"HTTP 401: who are you; .*--api-key-env") as raised:
        ask(refuse(401, "who are you"), api_key_env="MY_KEY")
    assert "sesame" not in str(raised.value)


def test_key_is_sent_and_kept_nowhere(ask, settings, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="NO_KEY: is not set"):
        ask(lambda _: None, api_key_env="NO_KEY")
    monkeypatch.setenv("MY_KEY", "sesame")
    report, server = ask(lambda _: None, api_key_env="MY_KEY")
    assert report.complete
    assert server.authorization == "Bearer sesame"
    assert all(b"sesame" not in path.read_bytes() for path in settings["out"].iterdir())
    assert "sesame" not in "".join(capsys.readouterr())


def test_no_log_probabilities(ask):
    with pytest.raises(ConfigError, match=r"hold no log-probabilities.*such as vLLM, or --engine local or ray"):
        ask(lambda _: {"choices": [{"message": {"content": "1"}, "logprobs": None}]})


def test_no_json(ask):
    with pytest.raises(ConfigError, match=r"expected JSON, got '<html>'; is --endpoint .* with /v1 at its end"):
        ask(lambda _: "<html>")


def test_redirects_are_not_followed(ask):
    with pytest.raises(ConfigError, match=r"HTTP 307.*another address; name that one as --endpoint"):
        ask(refuse(307, "over there", Location="http://127.0.0.1:9/"))


def test_a_request_that_is_refused_before_any_photo_is_sent(ask):
    with pytest.raises(ConfigError, match=r"top_logprobs must be at most 5.*grey test photo.*--top-logprobs 5"):
        ask(refuse(400, "top_logprobs must be at most 5"))
    report, server = ask(lambda _: None, top_logprobs=5)
    assert report.complete
    assert {body["top_logprobs"] for body in server.bodies} == {5}


def test_whole_answers_want_vllm(ask):
    def other_server(_number):
        return 404, {}, {"detail": "Not Found"}

    with pytest.raises(ConfigError, match=r"/tokenize does not say .* as vLLM's does.*use --reading first-token"):
        ask(other_server, reading="whole")


def test_busy_server_is_asked_again(ask):
    script = {
        1: (429, {"Retry-After": "0"}, {"error": {"message": "slow down"}}),
        2: (503, {}, "starting"),
        4: (502, {}, ""),
    }
    report, server = ask(script.get)
    assert report.complete
    assert not report.failed_rows
    assert server.asked == 1 + 12 + 3


def test_server_that_stays_busy_ends_the_run_which_goes_on_later(ask, settings):
    with pytest.raises(StepError, match=rf"does not answer \({client.ATTEMPTS} tries\).*HTTP 429: slow down"):
        ask(lambda number: (429, {}, {"error": {"message": "slow down"}}) if number > 7 else None)
    kept = sorted(path.name for path in settings["out"].iterdir())
    assert not [name for name in kept if not name.startswith("part-")]
    report, server = ask(lambda _: None)
    assert report.complete
    assert report.reused == len(kept)
    assert server.asked == 1 + 12 - 5 * len(kept)


def test_a_refused_photo_is_a_failed_row(ask):
    report, _ = ask(refuse(400, "cannot identify image", 3))
    assert [row["sample_id"] for row in report.failed_rows] == ["list/002.png"]
    assert "refused by the endpoint" in report.failed_rows[0]["error"]
    assert "HTTP 400: cannot identify image" in report.failed_rows[0]["error"]


def test_a_photo_on_which_the_server_fails_again_and_again_is_a_failed_row(ask):
    report, server = ask(refuse(500, "out of luck", *range(3, 3 + client.ATTEMPTS_ON_500)))
    assert [row["sample_id"] for row in report.failed_rows] == ["list/002.png"]
    assert f"HTTP 500: out of luck ({client.ATTEMPTS_ON_500} times)" in report.failed_rows[0]["error"]
    assert server.asked == 1 + 12 + client.ATTEMPTS_ON_500 - 1


def test_when_all_photos_of_a_shard_are_refused_it_is_not_the_photos(ask):
    report, _ = ask(refuse(400, "not now", *range(6, 11)))
    assert not report.complete
    assert list(report.failed_shards) == [1]
    assert "refused all 5 photos" in report.failed_shards[1]
    again, server = ask(lambda _: None)
    assert again.complete
    assert server.asked == 1 + 5


def test_one_refused_photo_alone_in_the_last_shard_is_a_failed_row(ask):
    report, _ = ask(refuse(415, "no such format", 12), shard_size=11)
    assert report.complete
    assert [row["sample_id"] for row in report.failed_rows] == ["list/011.png"]


def test_a_photo_without_any_answer_among_the_tokens_is_a_failed_row(ask):
    report, _ = ask(lambda number: answering(("sorry", -0.1), ("no", -3.0)) if number == 4 else None)
    (row,) = report.failed_rows
    assert "no answer begins with one of the 2 most probable tokens; the first of them is 'sorry'" in row["error"]


def test_upper_bounds_are_counted(ask, capsys):
    ask(lambda _: answering(("1", -0.1), ("2", -3.0), ("3", -4.0), ("4", -5.0)))
    assert "predict: 13 log-probabilities are upper bounds" in capsys.readouterr().err


def test_another_status_ends_the_run(ask):
    with pytest.raises(ConfigError, match="HTTP 402: no credit"):
        ask(refuse(402, "no credit", 3))


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once_and_the_same_command_goes_on(settings):
    """While a request hangs that the server would answer in a minute."""
    hanging = threading.Event()

    def script(number: int) -> None:
        if number == 9:
            hanging.wait(60)

    server = Scripted(script)
    words = ["predict", "--endpoint-model", "tiny", "--in-flight", "1"]
    for name, value in settings.items():
        words += ["--" + {"photo_list": "list"}.get(name, name).replace("_", "-"), str(value)]
    with serve(server) as url:
        words += ["--endpoint", url]
        process = subprocess.Popen(
            [sys.executable, "-m", "launch.cli", *words],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        while server.asked < 10:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        hanging.set()
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert (
            said.strip().splitlines()[-1].startswith("riskfuse predict: interrupted; what is done is kept, go on with:")
        )
        assert not list(settings["out"].glob("*.json"))
        before = server.asked
        assert main(words) == 0
        assert server.asked <= before + 1 + 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint": "127.0.0.1:8000"}, "expected an address such as"),
        ({"endpoint": "http://me:secret@127.0.0.1/v1"}, "holds a user, a password"),
        ({"endpoint": "http://gpu.example:8000/v1"}, r"unencrypted.*SSH tunnel.*--plain-http"),
    ],
)
def test_addresses_that_photos_are_not_sent_to(settings, changes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        predict(PredictConfig(**settings | {"endpoint_model": "tiny"} | changes))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--endpoint", "http://127.0.0.1:9"), "endpoint_model"),
        (("--endpoint-model", "tiny"), "name one"),
        (("--endpoint", "http://127.0.0.1:9", "--endpoint-model", "tiny", "--adapter", "a"), "has loaded its model"),
        (("--endpoint", "http://127.0.0.1:9", "--endpoint-model", "tiny", "--workers", "4"), "in_flight"),
        (("--engine", "vllm"), "vllm_python"),
        (("--vllm-python", "python3"), "engine vllm"),
        (("--top-logprobs", "21"), "top_logprobs"),
    ],
)
def test_flags_that_do_not_go_together(settings, flags, message, capsys):
    words = ["predict", *flags]
    for name, value in settings.items():
        words += ["--" + {"photo_list": "list"}.get(name, name).replace("_", "-"), str(value)]
    assert main(words) == 2
    assert message in capsys.readouterr().err
