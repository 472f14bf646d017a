"""What Ray says when it cannot start is said in words that help."""

import subprocess
import sys

import pytest

SLOW = """
from ray._private import services

def never(*_):
    raise RuntimeError("no node")

services.get_node = never

from dataset_builders.errors import StepError
from launch.ray_cluster import ray_cluster

try:
    with ray_cluster(None, cpus=1):
        pass
except StepError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.long  # Ray waits for half a minute
def test_machine_on_which_ray_starts_too_slowly():
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=False)
    assert "within its 30 seconds" in done.stdout, done.stderr
    assert "--engine local" in done.stdout
