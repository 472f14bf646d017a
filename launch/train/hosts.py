"""One training on several machines, started from one of them over ssh."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from launch.pipeline.processes import ended_by_signals

__all__ = ["SSH", "host_commands", "run_on_hosts"]

# A terminal of its own on the other side: when ssh ends, the training there is ended too.
SSH = "ssh -tt -o BatchMode=yes"


def host_commands(hosts: Sequence[str], words: Sequence[str], *, port: int, ssh: str = SSH) -> list[list[str]]:
    """The command line that starts each host's part; the first host is machine 0.

    Every host must have the repository, its environment and the data at the paths of this one.

    Args:
        hosts: Names as ssh knows them; the first one's must be known to the others too.
        words: Arguments of ``riskfuse train`` that all share.
        port: Port of machine 0 where all meet.
        ssh: Command that takes a host and a shell line.
    """
    master = f"{hosts[0].rpartition('@')[2]}:{port}"
    commands = []
    for rank, host in enumerate(hosts):
        own = ["--nodes", str(len(hosts)), "--node-rank", str(rank), "--master", master]
        line = shlex.join([sys.executable, "-m", "launch.cli", "train", *words, *own])
        commands.append([*shlex.split(ssh), host, f"cd {shlex.quote(str(Path.cwd()))} && exec {line}"])
    return commands


@ended_by_signals()
def run_on_hosts(hosts: Sequence[str], commands: Sequence[Sequence[str]], say: Callable[[str], None]) -> int:
    """Run all parts side by side; every line that a host prints gets its name in front.

    When one part has ended for good with an error, the others are ended, for they would wait for it.

    Returns:
        0, or the first exit status that was not.
    """
    processes: list[subprocess.Popen[str]] = []
    failed: list[int] = []

    def follow(host: str, process: subprocess.Popen[str], output: IO[str]) -> None:
        for line in output:
            say(f"[{host}] {line.rstrip()}")
        if (status := process.wait()) != 0 and not failed:
            failed.append(status)
            say(f"[{host}] ended with status {status}; the other hosts are ended too")
            for other in processes:
                other.terminate()

    threads = []
    try:
        for command in commands:
            processes.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            )
        for host, process in zip(hosts, processes, strict=True):
            assert process.stdout is not None
            threads.append(threading.Thread(target=follow, args=(host, process, process.stdout)))
            threads[-1].start()
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:  # and not the threads: Python takes one whose join was interrupted for ended
            process.wait()
        raise
    return failed[0] if failed else 0
