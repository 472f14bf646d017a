"""Benchmarks run, and end with one JSON object; what they measure is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SMALL = {
    "augment_vs_loop.py": ["--photos", "64", "--side", "112", "--repeats", "1", "--cores", "2"],
    "predict_vs_loop.py": ["--photos", "4", "--repeats", "1", "--max-new-tokens", "4", "--cores", "1"],
    "verification.py": ["--adapters", "none", "--photos", "10", "--resamples", "5"],
}


def test_every_benchmark_is_run():
    assert set(SMALL) == {path.name for path in Path("benchmarks").glob("*.py")}


@pytest.mark.parametrize("name", SMALL)
def test_last_line_is_one_json_object_with_ratios(name):
    command = [sys.executable, f"benchmarks/{name}", *SMALL[name]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == Path(name).stem
    assert all(ratio > 0 for ratio in result.get("ratios", {}).values())
