"""Whether processes of this machine reach each other, whether Ray can start, and whether the hub answers."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from pathlib import Path

from launch.doctor.child import ask_child
from launch.doctor.result import Result, error, note, ok, warning
from launch.train.config import DEFAULT_PORT

__all__ = ["check_hub", "check_loopback", "check_port", "check_ray_directory", "start_ray"]

RAY_TIMEOUT_S = 300.0
HUB_TIMEOUT_S = 60.0
SOCKET_PATH = 107  # bytes of a Unix socket's path on Linux; 103 on macOS
# <temporary directory>/ray/session_<time>_<pid>/sockets/plasma_store
_RAY_TAIL = len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.0")
_RAY = """
import json
from launch.ray_cluster import ray_cluster
with ray_cluster(None, cpus=1):
    import ray
    answer = ray.get(ray.remote(lambda: 42).remote(), timeout=120)
print(json.dumps(answer))
"""
_HUB = """
import json, sys
from urllib.request import Request, urlopen
from huggingface_hub import hf_hub_url
from huggingface_hub.utils import build_hf_headers
urlopen(Request(hf_hub_url(sys.argv[1], "config.json"), method="HEAD", headers=build_hf_headers()), timeout=20).close()
print(json.dumps(True))
"""


def check_loopback() -> Result:
    """Can processes of this machine reach each other by 127.0.0.1 and by the machine's own address?"""
    addresses = list(dict.fromkeys(["127.0.0.1", _own_address()]))
    for address in addresses:
        try:
            with socket.create_server((address, 0)) as server:
                port = server.getsockname()[1]
                socket.create_connection((address, port), timeout=5).close()
        except OSError as failure:
            problem = f"processes cannot reach each other by {address}: {failure}; torchrun and Ray will hang"
            remedy = "Open connections of this machine to itself in its firewall or its container's network."
            return error("loopback", ", ".join(addresses), problem, remedy)
    return ok("loopback", ", ".join(addresses))


def _own_address() -> str:
    """The address by which Ray's processes find each other; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 1))  # a documentation address (RFC 5737): only the route is looked up
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def check_port(port: int = DEFAULT_PORT) -> Result:
    """Is the port free where several machines meet? One machine does not need it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            problem = "a training on several machines with this one as machine 0 cannot meet here"
            remedy = (
                f"Name another one on all machines, such as `--master HOST:{port + 1}`; one machine alone needs none."
            )
            return warning("port", f"{port} is taken", problem, remedy)
    return ok("port", f"{port} is free, for trainings on several machines")


def check_ray_directory() -> Result:
    """Is the path of Ray's sockets short enough, and can they be made there?"""
    root = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    limit = SOCKET_PATH if sys.platform.startswith("linux") else SOCKET_PATH - 4
    if len(os.fsencode(root)) + _RAY_TAIL > limit:
        problem = f"Ray's sockets would have paths of over {limit} bytes (AF_UNIX path length), and it does not start"
        return error("ray", f"temporary directory {root}", problem, "Set RAY_TMPDIR=/tmp.")
    if not Path(root).is_dir() or not os.access(root, os.W_OK):
        problem = "Ray keeps its sockets and logs there, and may not write to it"
        return error("ray", f"temporary directory {root}", problem, "Set RAY_TMPDIR to a short path of your own.")
    try:
        with tempfile.TemporaryDirectory(dir=root) as scratch, socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(Path(scratch) / "s"))
    except OSError as failure:
        problem = f"no Unix socket can be made there: {failure}"
        return error("ray", f"temporary directory {root}", problem, "Set RAY_TMPDIR to a directory on a local disk.")
    return ok("ray", f"can start in {root}")


def start_ray() -> Result:
    """Start a private Ray with one core as ``riskfuse predict`` does, and end it."""
    answer, failure = ask_child(["-c", _RAY], timeout_s=RAY_TIMEOUT_S)
    if answer == 42:
        return ok("ray", "started, worked and ended")
    remedy = "Predict with `--engine local`, in one process; Ray's logs are in session_latest/logs of its directory."
    return error("ray", "does not start", failure, remedy)


def check_hub(model: str) -> Result:
    """Does the hub answer for this model? Asks for the headers of its ``config.json``, once, and downloads nothing."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return note("hub", "not asked: HF_HUB_OFFLINE is set", "only models that are on this machine can be used")
    answer, failure = ask_child(["-c", _HUB, model], timeout_s=HUB_TIMEOUT_S)
    if answer:
        return ok("hub", f"{model} can be downloaded")
    remedy = (
        "Set HF_ENDPOINT to a mirror that you may use, or HTTPS_PROXY; or copy the model here and name its "
        "directory as model_name_or_path. The CPU twins need no hub."
    )
    return error("hub", model, f"cannot be reached: {failure}", remedy)
