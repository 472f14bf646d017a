"""Command lines of ``riskfuse train``, and the mistakes that it names."""

import shlex
import sys

import pytest
import yaml

from launch.cli import main
from launch.train import run
from launch.train.hosts import host_commands, run_on_hosts
from launch.training import has_gpu, last_step


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    has_gpu.cache_clear()
    path = tmp_path / "recipe.yaml"
    keys = {"model_name_or_path": "m", "template": "qwen2_vl", "output_dir": str(tmp_path / "saves")}
    path.write_text(yaml.safe_dump(keys))
    yield path
    has_gpu.cache_clear()


def dry(capsys, recipe, *words):
    assert main(["train", str(recipe), *words, "--dry-run"]) == 0
    ours, _, plain = capsys.readouterr().out.splitlines()
    return shlex.split(ours)[1:], shlex.split(plain.removeprefix("# "))


def test_one_machine(recipe, capsys):
    ours, plain = dry(capsys, recipe, "max_steps=3", "--processes", "2")
    assert ours[:6] == ["-m", "launch.train.torchrun", "--nnodes", "1", "--nproc-per-node", "2"]
    assert ours[6:10] == ["--rdzv-backend", "loopback", "--rdzv-endpoint", "127.0.0.1"]
    assert ours[-4:] == ["-m", "launch.train.worker", str(recipe), "max_steps=3"]
    assert plain[-4:] == ["llamafactory-cli", "train", str(recipe), "max_steps=3"]
    assert {"FORCE_TORCHRUN=1", "NPROC_PER_NODE=2", "DS_ACCELERATOR=cpu"} <= set(plain)
    assert {"GLOO_SOCKET_IFNAME=lo", "NCCL_SOCKET_IFNAME=lo"} <= set(plain)


def test_several_machines_meet_at_machine_0_and_restart_together(recipe, capsys):
    words = ["--nodes", "2", "--node-rank", "1", "--master", "10.0.0.1", "--interface", "eth7", "--restarts", "5"]
    ours, plain = dry(capsys, recipe, *words)
    line = " ".join(ours)
    assert "--rdzv-backend c10d --rdzv-id riskfuse --rdzv-endpoint 10.0.0.1:29400 --rdzv-conf is_host=0" in line
    assert "--node-rank 1" in line
    assert "--max-restarts 5" in line
    wanted = {"NNODES=2", "RDZV_ID=riskfuse", "MASTER_ADDR=10.0.0.1", "MASTER_PORT=29400", "MAX_RESTARTS=5"}
    assert wanted | {"GLOO_SOCKET_IFNAME=eth7", "NCCL_SOCKET_IFNAME=eth7"} <= set(plain)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "2"], "need --master"),
        (["--nodes", "2", "--node-rank", "2", "--master", "a"], "ranks count from 0"),
        (["--processes", "0"], "processes"),
        (["--master", "http://a"], "master"),
        (["--hosts", "a,b", "--nodes", "2"], "leave out --nodes"),
        (["--hosts", "a,b", "--master", "c:1"], "machine 0 is the first host"),
        (["max_steps"], "overrides"),
    ],
)
def test_mistakes_are_named(recipe, capsys, words, said):
    assert main(["train", str(recipe), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_recipe_that_would_fail_is_not_started(recipe, capsys):
    assert main(["train", str(recipe), "max_stepps=3"]) == 2
    said = capsys.readouterr().err
    assert "max_stepps" in said
    assert str(recipe) in said
    assert "--no-check" in said


def test_a_finished_run_is_left_alone(recipe, tmp_path, capsys):
    (tmp_path / "saves").mkdir()
    (tmp_path / "saves" / "all_results.json").write_text("{}")
    (tmp_path / "saves" / "trainer_state.json").write_text('{"global_step": 4, "max_steps": 4}')
    assert main(["train", str(recipe)]) == 0
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("steps", "status", "starts"),
    [
        ([(0, 70), (50, 65), (50, 100)], 0, 3),  # the second is lost before it is where the first one was
        ([(0, 70), (50, 50), (50, 100)], 1, 2),
        ([(0, 0)], 1, 1),
    ],
)
def test_a_lost_run_is_started_again_when_it_made_a_step(recipe, tmp_path, monkeypatch, steps, status, starts):
    monkeypatch.setattr(run, "PAUSE_S", 0)
    (tmp_path / "saves").mkdir()
    to_come = iter(steps)

    def train(*_):
        first, last = next(to_come)
        for step in range(first + 5, last + 1, 5):
            with (tmp_path / "saves" / "trainer_log.jsonl").open("a") as log:
                log.write(f'{{"current_steps": {step}}}\n')
        return int(last < 100)

    monkeypatch.setattr(run, "_run", train)
    assert main(["train", str(recipe), "--no-check"]) == status
    assert len(steps) - len(list(to_come)) == starts


def test_hosts_get_their_rank_and_the_first_is_machine_0(recipe, capsys):
    assert main(["train", str(recipe), "--hosts", "me@alpha,beta", "--master", ":1234", "--dry-run"]) == 0
    first, second = map(shlex.split, capsys.readouterr().out.splitlines())
    assert first[:4] == ["ssh", "-tt", "-o", "BatchMode=yes"]
    assert (first[4], second[4]) == ("me@alpha", "beta")
    assert first[5].startswith("cd ")
    assert first[5].endswith("--nodes 2 --node-rank 0 --master alpha:1234")
    assert second[5].endswith("--nodes 2 --node-rank 1 --master alpha:1234")


def test_one_host_that_fails_ends_the_others():
    code = "import sys, time; print('here', flush=True); sys.exit(3) if sys.argv[1] == 'b' else time.sleep(60)"
    commands = [[sys.executable, "-c", code, host] for host in "abc"]
    lines = []
    assert run_on_hosts("abc", commands, lines.append) == 3
    assert "[b] here" in lines
    assert "[b] ended with status 3; the other hosts are ended too" in lines
    assert run_on_hosts("a", [[sys.executable, "-c", ""]], lines.append) == 0


def test_words_of_hosts_are_quoted():
    (command,) = host_commands(["a"], ["my recipe.yaml"], port=1, ssh="sh -x")
    assert command[:3] == ["sh", "-x", "a"]
    assert "'my recipe.yaml'" in command[3]


def test_the_last_step_is_that_of_the_last_whole_line(tmp_path):
    assert last_step(tmp_path) is None
    (tmp_path / "trainer_log.jsonl").write_text('{"current_steps": 12}\n{"current_steps": 13, "lo')
    assert last_step(tmp_path) == 12


def test_machine_0_is_the_host_and_knows_its_address(recipe, capsys):
    ours, _ = dry(capsys, recipe, "--nodes", "2", "--master", "127.0.0.1:1234")
    assert "--rdzv-conf is_host=1 --local-addr 127.0.0.1" in " ".join(ours)
    ours, _ = dry(capsys, recipe, "--nodes", "2", "--master", "no-such-host.invalid")
    assert "--local-addr" not in ours
