"""Two hosts: two network namespaces with a cable between them, each with its own torchrun and one process.

A rank is killed in the middle; the run goes on from the checkpoint and ends with the bytes of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from train_data import ROOT, adapter, kill_rank, train_command, wait_until, write_recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
ADDRESSES = ("10.213.0.1", "10.213.0.2")
CABLE = ("rf-cable-0", "rf-cable-1")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[str, str]]:
    """Names of two namespaces that are connected; removed at the end, with what runs in them."""
    names = (f"rf-{os.getpid()}-0", f"rf-{os.getpid()}-1")
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", CABLE[0], "netns", names[0], "type", "veth", "peer", "name", CABLE[1], "netns", names[1])
        for name, cable, address in zip(names, CABLE, ADDRESSES, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", cable)
            _ip("-n", name, "link", "set", cable, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            for pid in pids.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            subprocess.run(["ip", "netns", "delete", name], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def start(hosts: tuple[str, str], recipe: Path, out: Path, *words: object) -> list[subprocess.Popen]:
    """The same command on both hosts, but for the rank."""
    started = []
    for rank, (host, cable) in enumerate(zip(hosts, CABLE, strict=True)):
        command = train_command(recipe, f"output_dir={out}", *words, "--processes", 1, "--nodes", 2)
        command += ["--node-rank", str(rank), "--master", ADDRESSES[0], "--interface", cable]
        with Path(f"{out}.host{rank}.log").open("w") as log:
            started.append(subprocess.Popen(["ip", "netns", "exec", host, *command], stdout=log, stderr=log))
    return started


@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_a_lost_rank_changes_no_byte(hosts, stage, tiny_model, card, tmp_path):
    recipe = write_recipe(tmp_path, tiny_model, card, deepspeed=str(ROOT / f"ds_configs/{stage}.json"))
    quiet, lost = tmp_path / "quiet", tmp_path / "lost"
    assert [process.wait() for process in start(hosts, recipe, quiet)] == [0, 0], _logs(quiet)
    processes = start(hosts, recipe, lost, "--no-check")
    wait_until((lost / "checkpoint-20" / "trainer_state.json").is_file, *processes)
    kill_rank(lost, 1)
    assert [process.wait() for process in processes] == [0, 0], _logs(lost)
    assert "Resuming training from" in _logs(lost)
    assert adapter(lost) == adapter(quiet)


def _logs(out: Path) -> str:
    return "\n".join(Path(f"{out}.host{rank}.log").read_text(errors="replace")[-4000:] for rank in range(2))
