"""How fast is training? The usual plain settings against RiskFuse's profiles, on the same data, in one run.

Plain are the settings that a public write-up of the competition reports: LoRA of rank 8, four photos a pass, 32 a step,
and LLaMA-Factory's own checkpointing.

On a CPU (`--size tiny`) every arm is `llamafactory-cli train` itself: two DeepSpeed ZeRO-2 processes, the tiny model,
one epoch of rendered scenes, 32 photos a step, in turn, `--repeats` times. All learn the same from the same photos in
the same order; only how the work is cut differs, so their losses, which are reported step by step, must agree:

    plain              four photos a pass, activations checkpointed as LLaMA-Factory does by itself
    large_batch        sixteen photos a pass
    no_checkpointing   nothing is computed twice
    riskfuse           both
    group_by_length    plain, with examples of like length in a step (another order, so another curve)
    packing            plain, with examples packed into rows of 1,024 tokens (a step is six packs, so another curve)

A rate is that of the steps after the first one, which pays for what is made once; all before is start-up. No dropout,
whose masks depend on the passes.

On a GPU (`--size 3b`, `--size 7b`) the published size with random weights in bf16 makes steps of 32 photos of 756 x 756
pixels: with the plain settings, with the recipe as it is and with every profile that `riskfuse plan` says fits. Beside
tokens a second it reports the peak of memory and the share of what the GPU reaches in a plain matrix product. Counted
are 4 operations a weight and token of the language model and 2 a weight and patch of the frozen tower, without
attention and without what checkpointing computes again. Without a GPU it says "not measured".

Prints a table; the last line is one JSON object. Writes nothing else unless --out is given.

Examples:
    python benchmarks/train_throughput.py --out benchmarks/results/train_throughput.cpu-2-cores.json
    python benchmarks/train_throughput.py --size 7b --out benchmarks/results/train_throughput_7b.gpu.json
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from plan_memory import Arm, load, make_batch, model_directory
from predict_vs_loop import no_gpu, processor_name

TINY = Path("recipes/tiny/base.yaml")
FULL = Path("recipes/base.yaml")
PUBLISHED = {"3b": "Qwen2.5-VL-3B-Instruct", "7b": "Qwen2.5-VL-7B-Instruct"}
PROCESSES = 2
SIDE = 168
PLAIN = {"lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.0, "disable_gradient_checkpointing": False}
PLAIN |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}  # x 2 processes = 32 a step
LARGE = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1}
KEPT = {"disable_gradient_checkpointing": True}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "large_batch": LARGE,
    "no_checkpointing": KEPT,
    "riskfuse": LARGE | KEPT,
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    # A pack holds six examples of 161 tokens: six packs, 36 photos, come closest to the 32 of a step.
    "packing": {"neat_packing": True, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 1},
}
SAME_CURVE = ("large_batch", "no_checkpointing", "riskfuse")
POLL_S = 0.02
STEPS = 3
MATRIX = 8192


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", *PUBLISHED), default="tiny", help="3b and 7b need a GPU")
    parser.add_argument("--photos", type=int, default=512, help="of the epoch (tiny)")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--arms", default=",".join(ARMS), help="which to run (tiny; default: all)")
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def build_data(directory: Path, photos: int) -> Path:
    """A data set of rendered scenes, training photos alone."""
    from ray_scaling import write_photos

    from dataset_builders.files import write_json
    from dataset_builders.sharegpt import conversation, register_datasets
    from dataset_builders.task_card import load_task_card

    card = load_task_card(Path("recipes/tasks/corridor.yaml"))
    prompt, labels = card.prompt("base"), card.label_ids  # scenes come in the order of the labels
    examples = [
        conversation(prompt, f"photos/{name}", card.answer_for("base", labels[number % len(labels)]).text)
        for number, name in enumerate(write_photos(directory, photos, SIDE))
    ]
    write_json(directory / "train.json", examples)
    register_datasets(directory, {"corridor_train": "train.json"})
    return directory


def train(arm: str, data: Path, scratch: Path) -> dict[str, Any]:
    """One training in processes of its own: when each step was logged, its loss, and the tokens seen."""
    from launch.recipe import load_recipe
    from launch.training import training_command, training_environment

    output = Path(tempfile.mkdtemp(dir=scratch)) / "saves"
    keys = dict(load_recipe(TINY).raw) | PLAIN | ARMS[arm]
    keys |= {"dataset_dir": str(data), "output_dir": str(output), "deepspeed": "ds_configs/zero2.json"}
    keys |= {"num_train_epochs": 1, "logging_steps": 1, "save_strategy": "no", "eval_strategy": "no"}
    if arm != "packing":  # its attention mask numbers the examples of a pack and cannot be counted
        keys["include_num_input_tokens_seen"] = "non_padding"
    del keys["eval_dataset"], keys["save_steps"]
    recipe = output.with_name("recipe.yaml")
    recipe.write_text(yaml.safe_dump(keys), encoding="utf-8")
    log, errors = output / "trainer_log.jsonl", output.with_name("errors.txt")
    environment = os.environ | training_environment(keys, PROCESSES)
    started_s = time.monotonic()
    with errors.open("wb") as file:
        process = subprocess.Popen(training_command(recipe), env=environment, stdout=file, stderr=file)
    logged_s: list[float] = []
    while process.poll() is None:
        lines = log.read_bytes().count(b"\n") if log.is_file() else 0
        logged_s += [time.monotonic() - started_s] * (lines - len(logged_s))
        time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(errors.read_text(encoding="utf-8")[-4000:])
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [entry for entry in entries if "loss" in entry]  # the last line is a summary
    return {
        "losses": [entry["loss"] for entry in steps],
        "logged_s": logged_s[: len(steps)],
        "tokens": entries[-1].get("total_tokens"),
    }


def compare_arms(arguments: argparse.Namespace) -> dict[str, Any]:
    """All arms on a CPU, in turn."""
    arms = arguments.arms.split(",")
    rates: dict[str, list[float]] = {arm: [] for arm in arms}
    startup_s: dict[str, list[float]] = {arm: [] for arm in arms}
    losses: dict[str, list[float]] = {}
    tokens = 0
    with tempfile.TemporaryDirectory() as scratch:
        data = build_data(Path(scratch), arguments.photos)
        for repeat in range(arguments.repeats):
            for arm in arms[repeat % len(arms) :] + arms[: repeat % len(arms)]:
                run = train(arm, data, Path(scratch))
                losses[arm], steps, at_s = run["losses"], len(run["losses"]), run["logged_s"]
                tokens = run["tokens"] or tokens
                photos = arguments.photos * (steps - 1) / steps
                rates[arm].append(photos / (at_s[-1] - at_s[0]))
                startup_s[arm].append(at_s[0])
                print(f"{arm:<18}{steps:>4} steps{rates[arm][-1]:>8.1f} photos/s", flush=True)
    ratios = {arm: [a / b for a, b in zip(rates[arm], rates["plain"], strict=True)] for arm in arms if "plain" in arms}
    same = [arm for arm in SAME_CURVE if arm in losses and "plain" in losses]
    return {
        "benchmark": "train_throughput",
        "size": "tiny",
        "photos": arguments.photos,
        "processor": processor_name(),
        "processes": PROCESSES,
        "repeats": arguments.repeats,
        "tokens_of_an_example": round(tokens / arguments.photos, 1),
        "photos_per_s": {arm: round(statistics.median(values), 1) for arm, values in rates.items()},
        "tokens_per_s": {arm: round(statistics.median(v) * tokens / arguments.photos) for arm, v in rates.items()},
        "ratios": {arm: round(statistics.median(values), 2) for arm, values in ratios.items() if arm != "plain"},
        "ratios_by_repeat": {arm: [round(v, 3) for v in values] for arm, values in ratios.items() if arm != "plain"},
        "startup_s": {arm: round(statistics.median(values), 1) for arm, values in startup_s.items()},
        "losses": {arm: [round(loss, 6) for loss in values] for arm, values in losses.items()},
        "largest_difference_of_losses_to_plain": {
            arm: round(max(abs(a - b) for a, b in zip(losses[arm], losses["plain"], strict=True)), 6) for arm in same
        },
    }


def full_size_arms(size: str, memory_gib: float) -> dict[str, tuple[int, int, dict[str, Any]]]:
    """The plain settings and what `riskfuse plan` finds to fit: photos of a pass, passes of a step, checkpointing."""
    from launch.plan import Hardware, make_plan

    changes = {"model_name_or_path": f"Qwen/{PUBLISHED[size]}"}
    plan = make_plan(FULL, Hardware(1, memory_gib), task=Path("recipes/tasks/corridor.yaml"), changes=changes)
    keys = {
        "off": {"disable_gradient_checkpointing": True},
        "trained": {"disable_gradient_checkpointing": False},
        "all": {"disable_gradient_checkpointing": True, "gradient_checkpointing": True},
    }
    fitting = {item.name: item for item in plan.candidates if item.fits and item.settings is not None}
    arms = {"plain": (4, 8, keys["trained"])}
    for name, item in fitting.items():
        settings = (item.settings.batch, item.passes, keys[item.settings.checkpointing])
        if settings not in arms.values():  # profiles for several GPUs are alike on one
            arms[name] = settings
    return arms


def step_full_size(arm: Arm, passes: int, directory: Path, device: str, peak: float) -> dict[str, Any]:
    """A few optimiser steps of ``passes`` forward and backward passes each; ``peak`` is in operations a second."""
    import torch

    with torch.device(device):  # random weights are made where they stay
        model = load(arm, directory, device)
    batch = make_batch(arm, model.config, device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    seconds = []
    for _ in range(STEPS + 1):  # the first one makes the optimiser's states
        started_s = time.perf_counter()
        for _ in range(passes):
            model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started_s)
    step_s = statistics.median(seconds[1:])
    tokens, patches = batch["input_ids"].numel() * passes, batch["pixel_values"].shape[0] * passes
    tower = sum(p.numel() for name, p in model.named_parameters() if "visual" in name)
    embedding = model.get_input_embeddings().weight.numel()
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    language = sum(p.numel() for p in model.parameters()) - tower - (0 if tied else embedding)
    return {
        "photos_of_a_pass": arm.batch,
        "passes": passes,
        "photos_per_s": round(arm.batch * passes / step_s, 3),
        "tokens_per_s": round(tokens / step_s, 1),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None,
        "share_of_matrix_peak": round((4 * language * tokens + 2 * tower * patches) / step_s / peak, 3),
    }


def matrix_peak(device: str, side: int) -> float:
    """Operations a second of a bf16 matrix product (fp32 on a CPU)."""
    import torch

    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    if device == "cuda":
        a, b = a.bfloat16(), b.bfloat16()
    for _ in range(3):
        a @ b
    repeats = 20
    if device == "cuda":
        torch.cuda.synchronize()
    started_s = time.perf_counter()
    for _ in range(repeats):
        a @ b
    if device == "cuda":
        torch.cuda.synchronize()
    return 2 * side**3 * repeats / (time.perf_counter() - started_s)


def measure_full_size(size: str) -> dict[str, Any]:
    """Steps of the published size on this GPU, or why there are none."""
    found: dict[str, Any] = {"benchmark": "train_throughput", "size": size, "processor": processor_name()}
    if reason := no_gpu():
        return found | {"not_measured": reason}
    import torch

    memory_gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    peak = matrix_peak("cuda", MATRIX)
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        directory = model_directory(PUBLISHED[size], Path(scratch))
        for name, (photos, passes, keys) in full_size_arms(size, memory_gib).items():
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            arm = Arm(name, PUBLISHED[size], keys, photos, 280, 54, True)
            try:
                rows[name] = step_full_size(arm, passes, directory, "cuda", peak)
            except torch.cuda.OutOfMemoryError as error:
                rows[name] = {"photos_of_a_pass": photos, "not_measured": str(error).splitlines()[0]}
            print(f"{name:<18}{rows[name]}", flush=True)
    rates = {name: row["photos_per_s"] for name, row in rows.items() if "photos_per_s" in row}
    ratios = {
        name: round(rate / rates["plain"], 2) for name, rate in rates.items() if name != "plain" and "plain" in rates
    }
    gpu = {"gpu": torch.cuda.get_device_name(), "gpu_memory_gib": round(memory_gib, 1)}
    return found | gpu | {"matrix_peak_tflops": round(peak / 1e12, 1), "arms": rows, "ratios": ratios}


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    os.environ |= {"HF_HUB_OFFLINE": "1", "LLAMAFACTORY_VERBOSITY": "ERROR"}
    result = compare_arms(arguments) if arguments.size == "tiny" else measure_full_size(arguments.size)
    for name, value in result.items():
        print(f"{name:<24}{value}")
    line = json.dumps(result)
    if arguments.out is not None:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
