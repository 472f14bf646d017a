"""Who trains on one machine opens no port to others."""

import os
import subprocess

import psutil
import pytest
import yaml
from train_data import wait_until

from launch.train.command import torchrun_command, torchrun_environment
from launch.train.config import TrainConfig
from launch.training import training_environment

WORKER = """
import os, pathlib, sys, time
import torch.distributed
torch.distributed.init_process_group("gloo")
torch.distributed.barrier()
pathlib.Path(sys.argv[1], os.environ["RANK"]).touch()
time.sleep(600)
"""


def started_by_us(recipe):
    config = TrainConfig(recipe=recipe, processes=2)
    command = torchrun_command(config)[: -len(["-m", "launch.train.worker", str(recipe)])]
    return command, torchrun_environment(config)


def started_by_llamafactory(recipe):
    """With the words that LLaMA-Factory's launcher gives to torchrun, and the variables that pipelines give to it."""
    environment = training_environment(yaml.safe_load(recipe.read_text()), 2)
    port = {"master_addr": "127.0.0.1", "master_port": "29517"}
    words = {"nnodes": "1", "node_rank": "0", "nproc_per_node": environment["NPROC_PER_NODE"], **port}
    return ["torchrun", *(word for key, value in words.items() for word in (f"--{key}", value))], environment


@pytest.mark.parametrize("starts", [started_by_us, started_by_llamafactory])
def test_processes_of_one_machine_listen_to_loopback_alone(starts, tmp_path):
    recipe, script, met = tmp_path / "recipe.yaml", tmp_path / "worker.py", tmp_path / "met"
    recipe.write_text(yaml.safe_dump({"model_name_or_path": "m", "output_dir": str(tmp_path / "saves")}))
    script.write_text(WORKER)
    met.mkdir()
    torchrun, environment = starts(recipe)
    process = subprocess.Popen([*torchrun, str(script), str(met)], env=os.environ | environment)
    try:
        wait_until(lambda: len(list(met.iterdir())) == 2, process)
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        sockets = [socket for one in tree for socket in one.net_connections("inet")]
    finally:
        process.terminate()
        process.wait()
    listening = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
