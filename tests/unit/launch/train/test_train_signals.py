"""However a training is told to end, and also when its terminal is gone, nothing goes on behind its back."""

import functools
import os
import signal
import subprocess
import sys

import psutil
import pytest
import yaml
from train_data import wait_until

from launch.pipeline.processes import ended_by_signals

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


def test_a_terminal_that_is_gone_ends_torchrun_too(begun, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"output_dir": str(tmp_path / "saves"), "model_name_or_path": str(tmp_path)}))
    ours, theirs = os.openpty()
    process = start(TRAIN, begun, recipe, begin=functools.partial(os.login_tty, theirs))
    os.close(theirs)
    (torchrun,) = children(begun, process, 1)
    os.close(ours)
    process.wait(timeout=60)
    assert not torchrun.is_running()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_the_driver_ends_all_hosts(begun, number):
    process = start(HOSTS, begun)
    hosts = children(begun, process, 2)
    process.send_signal(number)
    process.wait(timeout=60)
    assert not any(host.is_running() for host in hosts)


def test_nohup_stays_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
