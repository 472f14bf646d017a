"""The command line answers at once, because nothing heavy is loaded before a command needs it."""

import os
import resource
import subprocess
import sys

import pytest

from launch.cli import COMMANDS

HEAVY = (
    "torch",
    "ray",
    "transformers",
    "llamafactory",
    "deepspeed",
    "peft",
    "albumentations",
    "sklearn",
    "matplotlib",
    "gradio",
)
PROBE = f"""
import sys
from launch.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print("LOADED", *loaded)
"""


def help_of(*words: str) -> str:
    command = [sys.executable, "-c", PROBE, *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"})
    return done.stdout


def test_help_is_fast():
    """The best of five in processor time, since other tests that run beside it can only add to the clock."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "launch.cli", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.5, times


@pytest.mark.parametrize(
    "words", [(), *((name,) for name in COMMANDS)], ids=lambda words: " ".join(words) or "riskfuse"
)
def test_help_loads_nothing_heavy_and_shows_an_example(words):
    text = help_of(*words)
    assert text.rstrip().endswith("LOADED")
    assert f"example: riskfuse {' '.join(words)}".rstrip() in text
