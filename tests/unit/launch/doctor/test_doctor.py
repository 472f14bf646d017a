"""The doctor says what will not work and how to mend it, and never falls over what it looks at."""

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from launch.cli import main
from launch.doctor.accelerator import Gpus, check_imports, judge_gpus
from launch.doctor.child import ask_child
from launch.doctor.machine import (
    check_cores,
    check_disks,
    check_memory,
    check_open_files,
    check_shared_memory,
    hub_cache,
    usable_memory,
)
from launch.doctor.network import check_hub, check_loopback, check_port, check_ray_directory
from launch.doctor.packages import check_builds, check_packages, check_python, read_lock
from launch.doctor.recipe import check_recipe_here
from launch.doctor.report import has_errors, render_results, results_as_json
from launch.doctor.result import GIB, error, note, ok, warning
from launch.doctor.tools import check_build_locks, check_commands, check_compiler
from launch.recipe import TrainingRecipe, load_recipe

ROOT = Path(__file__).parents[4]
GPU = {"name": "H", "capability": [9, 0], "free": 70 * GIB, "total": 71 * GIB, "error": ""}
PROBE = {"torch": "2.11.0+cu130", "cuda": "13.0", "architectures": ["sm_90"], "gpus": [GPU]}


def run_doctor(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.cli", "doctor", *words]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


def write_tool(directory: Path, name: str, script: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (directory / name).chmod(0o755)


def test_this_environment_works_and_nothing_heavy_is_loaded():
    script = "import sys\nfrom launch.doctor import diagnose\nrows = diagnose()\nprint([n for n in "
    script += "('torch', 'ray', 'transformers', 'llamafactory') if n in sys.modules], [r for r in rows if not r.found])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.stdout, done.stderr) == ("[] []\n", "")
    assert after.ru_utime - before.ru_utime < 5


def test_json_is_one_object_and_agrees_with_the_exit_code():
    done = run_doctor("--json", CUDA_VISIBLE_DEVICES="")
    found = json.loads(done.stdout)
    assert found["ok"] is (done.returncode == 0)
    names = [row["name"] for row in found["findings"]]
    assert {"python", "packages", "torch build", "gpu", "memory", "disk", "extensions", "ray"} <= set(names)
    assert all(row["remedy"] for row in found["findings"] if row["level"] in ("warning", "error"))


def test_torch_that_cannot_be_imported_on_a_gpu_machine_is_a_finding(tmp_path):
    """The driver's tool shows a GPU, so torch is asked; its import breaks."""
    write_tool(tmp_path / "bin", "nvidia-smi", 'case "$1" in -L) echo "GPU 0: H";; *) echo 570.1;; esac')
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')\n")
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = run_doctor(PATH=path, PYTHONPATH=str(tmp_path), CUDA_VISIBLE_DEVICES="0")
    assert done.returncode == 1
    assert done.stderr == ""
    assert "Torch cannot be imported: OSError: libcudart.so.13" in done.stdout
    assert "driver 570.1" in done.stdout


def test_driver_that_does_not_work_is_a_finding(tmp_path):
    write_tool(tmp_path, "nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "launch.cli", "doctor"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "version mismatch" in done.stdout


def test_gpus_as_torch_sees_them():
    gpus, rows = judge_gpus(PROBE | {"gpus": [GPU, GPU | {"total": 70.5 * GIB}]}, "", "570.1")
    assert gpus == Gpus(2, 70.5)
    assert [row.level for row in rows] == ["ok", "ok"]
    assert "compute capability 9.0, driver 570.1, CUDA 13.0" in rows[0].found


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"gpus": []}, "error", "driver is older than CUDA 13.0"),
        ({"gpus": [], "cuda": None}, "error", "built without CUDA"),
        ({"gpus": [GPU | {"error": "CUDA error: no kernel image is available"}]}, "error", "built for sm_90"),
        ({"gpus": [GPU | {"capability": [7, 5]}]}, "warning", "no bf16"),
        ({"gpus": [GPU | {"free": 10 * GIB}]}, "warning", "61.0 GiB are taken"),
    ],
)
def test_what_keeps_a_gpu_from_working(change, level, words):
    (row,) = judge_gpus(PROBE | change, "", "535")[1]
    assert row.level == level
    assert words in row.problem
    assert row.remedy


@pytest.mark.parametrize(
    ("row", "level", "words"),
    [
        (check_python((3, 10)), "error", "3.11"),
        (check_python((3, 14)), "error", "pydantic"),
        (check_cores(16, 2.0), "warning", "quota of 2 of 16"),
        (check_cores(16, None), "ok", ""),
        (check_memory(2 * GIB, 1 * GIB), "error", "4 GiB"),
        (check_memory(6 * GIB, 5 * GIB), "warning", "two processes"),
        (check_memory(16 * GIB, 1 * GIB), "warning", "other processes"),
        (check_memory(16 * GIB, 9 * GIB), "ok", ""),
        (check_shared_memory(64 << 20, 0), "warning", "bus error"),
        (check_shared_memory(64 << 20, 1), "error", "bus error"),
        (check_shared_memory(8 * GIB, 1), "ok", ""),
        (check_shared_memory(None, 0), "info", ""),
        (check_open_files(256, 4096), "warning", "Ray"),
        (check_open_files(1024, 4096), "ok", ""),
        (check_open_files(resource.RLIM_INFINITY, resource.RLIM_INFINITY), "ok", ""),
    ],
)
def test_limits(row, level, words):
    assert row.level == level, row
    assert words in row.problem
    assert bool(row.remedy) == (level in ("warning", "error"))


def test_memory_and_cores_of_this_machine():
    total, free = usable_memory()
    assert 0 <= free <= total
    assert check_cores().found


def test_lock_and_packages(tmp_path):
    lock = tmp_path / "lock"
    lock.write_text("torch==2.11.0 \\\n    --hash=sha256:00\nPy_Yaml==6.0\nelsewhere==1\n", encoding="utf-8")
    assert read_lock(lock) == {"torch": "2.11.0", "py-yaml": "6.0", "elsewhere": "1"}
    needed = {line.split(" ")[0]: "1" for line in _requirements()}
    rows = check_packages(lock, needed | {"torch": "2.10.0", "py-yaml": "6.0"})
    assert [row.level for row in rows] == ["warning"]
    assert rows[0].found == "other versions: torch 2.10.0 (pinned: 2.11.0)"
    assert check_packages(lock, needed | {"torch": "2.11.0+cu130", "py-yaml": "6.0"})[0].level == "ok"
    assert check_packages(lock, {"torch": "2.11.0"})[0].level == "error"
    assert check_packages(tmp_path / "none", {})[0].level == "info"
    assert check_builds().level == "ok"


def _requirements() -> list[str]:
    import re

    lines = [line for line in metadata.requires("riskfuse") or [] if "extra ==" not in line]
    return [re.match(r"[\w.-]+", line).group() for line in lines]


def test_torch_and_torchvision_of_different_builds(tmp_path, monkeypatch):
    for name, build in (("torch", "2.11.0+cpu"), ("torchvision", "0.26.0+cu130"), ("torchaudio", "2.11.0+cu130")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "version.py").write_text(f"__version__ = '{build}'\n", encoding="utf-8")
    script = "from launch.doctor.packages import check_builds; row = check_builds(); print(row.level, row.problem)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("error")
    assert "torchvision::nms" in done.stdout


def test_disks(tmp_path):
    (row,) = check_disks(0, {"saves": tmp_path / "a" / "b", "runs": tmp_path})
    assert row.level in ("ok", "error")
    assert "saves, runs" in row.found
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        assert "may not be written" in check_disks(0, {"saves": tmp_path / "a"})[0].problem


def test_hub_cache_follows_the_environment(monkeypatch):
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert hub_cache() == Path.home() / ".cache/huggingface/hub"
    monkeypatch.setenv("HF_HOME", "/models")
    assert hub_cache() == Path("/models/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/elsewhere")
    assert hub_cache() == Path("/elsewhere")


def test_compiler(monkeypatch):
    assert check_compiler(0).level == "ok"
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert check_compiler(0).level == "error"
    assert check_compiler(1).level == "info"


def test_commands(monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert check_commands().level == "ok"
    monkeypatch.setenv("PATH", "/nowhere")
    assert check_commands().level == "warning"


def test_lock_of_a_killed_process(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert check_build_locks().level == "ok"
    lock = tmp_path / "deepspeed_shm_comm" / "lock"
    lock.parent.mkdir()
    lock.touch()
    os.utime(lock, (time.time() - 400,) * 2)
    row = check_build_locks()
    assert row.level == "warning"
    assert str(lock) in row.remedy
    assert lock.exists(), "the doctor looks and does not touch"


def test_network_of_this_machine(monkeypatch, tmp_path):
    assert check_loopback().level == "ok"
    with socket.create_server(("", 0)) as server:
        assert check_port(server.getsockname()[1]).level == "warning"
    assert check_port(0).level == "ok"
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert check_ray_directory().level == "ok"
    long = tmp_path / ("long" * 20)
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    assert "AF_UNIX" in check_ray_directory().problem
    monkeypatch.setenv("RAY_TMPDIR", "/no-such-dir")
    assert check_ray_directory().level == "error"


def test_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert check_hub("some/model").level == "info"


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200 if self.path == "/some/model/resolve/main/config.json" else 404)
        self.end_headers()

    def log_message(self, *_words):
        pass


def test_hub_that_answers_and_one_that_does_not(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert check_hub("some/model").level == "ok"
        assert "404" in check_hub("no/model").problem
        server.shutdown()
    row = check_hub("some/model")
    assert row.level == "error"
    assert "refused" in row.problem


def test_imports(tmp_path, monkeypatch):
    (tmp_path / "breaks.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    (tmp_path / "crashes.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert check_imports(["json"])[0].level == "ok"
    (row,) = check_imports(["json", "breaks"])
    assert (row.found, row.problem) == ("breaks", "RuntimeError: operator torchvision::nms does not exist")
    assert "signal 11" in check_imports(["json", "crashes"])[0].problem


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "torchvision::nms"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import time; time.sleep(60)", "no answer"),
    ],
)
def test_child_that_breaks(script, words):
    answer, failure = ask_child(["-c", script], timeout_s=5)
    assert answer is None
    assert words in failure
    assert ask_child(["-c", "print('noise'); print('[1]')"], timeout_s=60) == ([1], "")


def test_table():
    rows = [ok("a", "1"), note("b", "2", "good to know"), warning("c", "3", "it is slow", "Do x.")]
    assert not has_errors(rows)
    text = render_results(rows)
    assert "It is slow." in text
    assert "Do x." in text
    assert "0 errors, 1 warnings, 2 others\nall that the CPU default needs is here\n" in text
    assert results_as_json([*rows, error("d", "4", "no", "Do y.")])["ok"] is False


def test_mistakes_exit_with_2(tmp_path, capsys):
    assert main(["doctor", "--task", "recipes/tasks/corridor.yaml"]) == 2
    assert main(["doctor", "--recipe", str(tmp_path / "no.yaml")]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_recipe_on_this_machine(tmp_path, monkeypatch):
    """Check and plan, as the commands say it."""
    monkeypatch.chdir(ROOT)
    card = Path("recipes/tasks/corridor.yaml")
    sound = load_recipe("recipes/tiny/base.yaml")
    rows = check_recipe_here(sound, card, Gpus(), 8 * GIB)
    assert any("dataset_info.json does not exist" in row.problem for row in rows)
    (fit,) = [row for row in rows if row.name == "fit"]
    assert fit.level == "ok"
    assert "no GPU" in fit.found
    assert rows[-1].name == "start it with"
    large = load_recipe("recipes/base.yaml")
    (fit,) = [row for row in check_recipe_here(large, card, Gpus(1, 24.0), 8 * GIB) if row.name == "fit"]
    assert fit.level == "error"
    assert "1x24gb fits: `FORCE_TORCHRUN=1" in fit.remedy


def test_half_precision_needs_a_gpu():
    from launch.doctor.recipe import _number_type

    recipe = TrainingRecipe(Path("r.yaml"), {"bf16": True})
    assert _number_type(recipe, Gpus())[0].level == "error"
    assert _number_type(recipe, Gpus(1, 24.0)) == []
    assert _number_type(TrainingRecipe(Path("r.yaml"), {}), Gpus()) == []
