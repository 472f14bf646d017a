"""A server on a leash: it answers within the block, tells why it did not start, and never outlives its owner."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dataset_builders.errors import StepError
from launch.predict.vllm.server import run_server

# Starts a child of its own, as vLLM starts its engine, then does what its first argument says.
SERVER = """
import http.server, os, pathlib, subprocess, sys, time
what, notes, *words = sys.argv[1:]
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(notes).write_text(f"{os.getpid()} {child.pid} {os.environ['VLLM_API_KEY']}")
options = dict(zip(words[::2], words[1::2]))
print("the model is being loaded", flush=True)
if what == "die":
    sys.exit("no such model")
if what == "hang":
    time.sleep(600)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/v1/die":
            print("out of memory", flush=True)
            child.kill()
            os._exit(9)
        self.send_response(200)
        self.end_headers()

http.server.HTTPServer((options["--host"], int(options["--port"])), Handler).serve_forever()
"""
OWNER = """
import pathlib, sys, time
from launch.predict.vllm.server import run_server
command, log = sys.argv[2:], pathlib.Path(sys.argv[1])
with run_server(command, environment={}, log=log, wait_s=60) as server:
    log.with_suffix(".up").touch()
    time.sleep(600)
"""


@pytest.fixture
def command(tmp_path):
    (tmp_path / "server.py").write_text(SERVER, encoding="utf-8")
    return lambda what: [sys.executable, str(tmp_path / "server.py"), what, str(tmp_path / "notes")]


def processes(tmp_path: Path) -> list[int]:
    return [int(word) for word in (tmp_path / "notes").read_text(encoding="utf-8").split()[:2]]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_gone(pids: list[int], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline, "the server outlived its owner"
        time.sleep(0.02)


def test_it_answers_and_ends_with_the_block(command, tmp_path):
    import httpx

    with run_server(command("serve"), environment={}, log=tmp_path / "log", wait_s=60) as server:
        assert httpx.get(f"{server.url}/models", trust_env=False).is_success
        assert server.url.startswith("http://127.0.0.1:")
        pids = processes(tmp_path)
        assert (tmp_path / "notes").read_text(encoding="utf-8").endswith(f" {server.api_key}")
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert_gone(pids, within_s=1)


def test_one_that_dies_tells_why(command, tmp_path):
    with (
        pytest.raises(StepError, match=r"(?s)ended before it answered \(status 1\).*being loaded\nno such model$"),
        run_server(command("die"), environment={}, log=tmp_path / "log", wait_s=60),
    ):
        pass
    assert_gone(processes(tmp_path))


def test_one_that_hangs_is_ended(command, tmp_path):
    with (
        pytest.raises(StepError, match=r"(?s)did not answer within 1 s \(--vllm-wait-s\).*the model is being loaded$"),
        run_server(command("hang"), environment={}, log=tmp_path / "log", wait_s=1),
    ):
        pass
    assert_gone(processes(tmp_path), within_s=1)


def test_one_that_dies_within_the_block_tells_why(command, tmp_path):
    import httpx

    def kill(url: str) -> None:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/die", trust_env=False)
        assert_gone(processes(tmp_path))
        time.sleep(0.2)  # the leash ends right after what it holds
        raise StepError("it does not answer")

    with (
        pytest.raises(StepError, match=r"(?s)vLLM ended \(status 9\): it does not answer.*out of memory$"),
        run_server(command("serve"), environment={}, log=tmp_path / "log", wait_s=60) as server,
    ):
        kill(server.url)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_it_ends_however_its_owner_does(command, tmp_path, number):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "log"), *command("serve")],
        stderr=subprocess.DEVNULL,
        # What a shell runs in the background inherits an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "log.up").exists():
        assert owner.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(owner.pid, number)
    assert owner.wait(30) != 0
    assert_gone(processes(tmp_path))
