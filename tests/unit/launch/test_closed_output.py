"""A reader of the output that goes away, such as ``head``, ends a command without a traceback."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("words", [["doctor", "--json"], ["run", "recipes/pipeline.yaml", "--dry-run"]])
def test_no_traceback_when_nobody_reads(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "launch.cli", *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 141
    assert "Error" not in done.stderr


def test_another_pipe_that_broke_stays_an_error() -> None:
    broken = "cli._run = mock.Mock(side_effect=BrokenPipeError)"
    code = f"from unittest import mock; from launch import cli; {broken}; cli.main([])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BrokenPipeError" in done.stderr
