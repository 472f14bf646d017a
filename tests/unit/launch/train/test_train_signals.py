"""What ends a training ends all of it, also a terminal that is gone; a second start does not."""

import errno
import fcntl
import functools
import os
import signal
import subprocess
import sys

import psutil
import pytest
import yaml
from train_data import wait_until

from launch.pipeline.processes import alone, ended_by_signals

CHILD = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1], str(os.getpid())).touch(); time.sleep(600)"
TRAIN = f"""
import pathlib, sys
import launch.train.run
from launch.cli import main
launch.train.run.torchrun_command = lambda config: [sys.executable, "-c", {CHILD!r}, sys.argv[1]]
sys.exit(main(["train", sys.argv[2], "--no-check", "--processes", "1"]))
"""
HOSTS = f"""
import sys
from launch.train.hosts import run_on_hosts
run_on_hosts("ab", [[sys.executable, "-c", {CHILD!r}, sys.argv[1]]] * 2, print)
"""


@pytest.fixture
def begun(tmp_path):
    """Directory of the process ids of those that began."""
    (tmp_path / "begun").mkdir()
    return tmp_path / "begun"


def start(code, *words, begin=lambda: None):
    def before():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also when these tests run under nohup
        begin()

    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], preexec_fn=before)


def children(begun, process, count):
    wait_until(lambda: len(list(begun.iterdir())) == count, process)
    return [psutil.Process(int(path.name)) for path in begun.iterdir()]


def works(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # which nobody has asked for its status


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"output_dir": str(tmp_path / "saves"), "model_name_or_path": str(tmp_path)}))
    return path


def test_a_second_start_leaves_the_first_alone(begun, recipe, capfd):
    first = start(TRAIN, begun, recipe)
    (torchrun,) = children(begun, first, 1)
    assert start(TRAIN, begun, recipe).wait(timeout=60) == 2
    assert "another riskfuse train works on" in capfd.readouterr().err
    assert works(torchrun)
    first.kill()  # which leaves torchrun at work
    first.wait()
    third = start(TRAIN, begun, recipe)
    wait_until(lambda: len(list(begun.iterdir())) == 2, third)
    third.terminate()
    assert third.wait(timeout=60) == 130
    assert not works(torchrun)


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone(tmp_path / "lock", "never said"):
        pass


def test_a_terminal_that_is_gone_ends_torchrun_too(begun, recipe):
    ours, theirs = os.openpty()
    process = start(TRAIN, begun, recipe, begin=functools.partial(os.login_tty, theirs))
    os.close(theirs)
    (torchrun,) = children(begun, process, 1)
    os.close(ours)
    process.wait(timeout=60)
    assert not works(torchrun)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_the_driver_ends_all_hosts(begun, number):
    process = start(HOSTS, begun)
    hosts = children(begun, process, 2)
    process.send_signal(number)
    process.wait(timeout=60)
    assert not any(works(host) for host in hosts)


def test_nohup_stays_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
