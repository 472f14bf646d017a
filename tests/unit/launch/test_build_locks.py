"""A lock that a killed process left is removed; one that is held, or young, stays."""

import os
import subprocess
import sys
import time

import pytest

from launch.build_locks import remove_stale_build_locks

# As torch.utils.file_baton acquires it.
HOLD = "import os, sys, time; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def lock(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    path = tmp_path / "extensions" / "py311_cpu" / "deepspeed_shm_comm" / "lock"
    path.parent.mkdir(parents=True)
    return path


def test_lock_of_a_killed_process(lock):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    assert remove_stale_build_locks(age_s=0) == []
    process.kill()
    process.wait()
    assert remove_stale_build_locks() == []
    assert remove_stale_build_locks(age_s=0) == [lock]
    assert not lock.exists()
    assert remove_stale_build_locks(age_s=0) == []


def test_old_lock_and_no_extensions(lock, monkeypatch, tmp_path):
    lock.touch()
    long_ago = time.time() - 400
    os.utime(lock, (long_ago, long_ago))
    assert remove_stale_build_locks() == [lock]
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "nowhere"))
    assert remove_stale_build_locks() == []
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "torch_extensions" / "py311_cpu" / "x").mkdir(parents=True)
    (tmp_path / "torch_extensions" / "py311_cpu" / "x" / "lock").touch()
    assert len(remove_stale_build_locks(age_s=0)) == 1
