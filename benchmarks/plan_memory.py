"""``riskfuse plan``'s estimate of a training step against what the step allocates.

Each arm loads a Qwen2.5-VL with LLaMA-Factory's own loader (LoRA, checkpointing and attention as a recipe asks for
them), makes one step to warm up and measures the next one: forward, backward, AdamW. On a CPU it is the peak of what
PyTorch's allocator hands out, event by event from its profiler; on a GPU ``torch.cuda.max_memory_allocated``. Both
count from the moment before the step, so that model and optimiser states, which are exact, do not hide an error. Arms
on a CPU: the tiny model of this repository and a wider one with a larger vocabulary and random weights. On a GPU: the
published 7B and 3B sizes with random weights; without a GPU that part says "not measured". ZeRO's sharding and the
reserve are in neither. Prints a table; the last line is one JSON object. Writes nothing else unless --out is given.

Example:
    python benchmarks/plan_memory.py --out benchmarks/results/plan_memory.cpu.json
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import finish, processor_name

TINY = Path("models/tiny-qwen2_5-vl")
OFF = {"disable_gradient_checkpointing": True}
TRAINED = {"disable_gradient_checkpointing": False}
ALL = {"disable_gradient_checkpointing": True, "gradient_checkpointing": True}
OPEN = {"freeze_vision_tower": False}
MIB = 2**20


@dataclass(frozen=True)
class Arm:
    """One training step: which model, what its recipe says, what it sees."""

    name: str
    model: str = "tiny"
    keys: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 4
    text: int = 40
    side: int = 12  # patches of a photo's side
    sixteen_bit: bool = False


CPU_ARMS = (
    Arm("no checkpointing, frozen tower", keys=OFF),
    Arm("the same, one photo", keys=OFF, batch=1),
    Arm("the same, eight photos", keys=OFF, batch=8),
    Arm("the same, long text", keys=OFF, text=400, side=4),
    Arm("the same, no dropout", keys=OFF | {"lora_dropout": 0.0}),
    Arm("the same, eager attention", keys=OFF | {"flash_attn": "disabled"}),
    Arm("the same, 16-bit", keys=OFF, sixteen_bit=True),
    Arm("checkpointing of trained layers, frozen tower", keys=TRAINED),
    Arm("checkpointing of all layers, frozen tower", keys=ALL),
    Arm("the same, long text", keys=ALL, text=400, side=4),
    Arm("no checkpointing, open tower", keys=OFF | OPEN),
    Arm("checkpointing of trained layers, open tower", keys=TRAINED | OPEN),
    Arm("checkpointing of all layers, open tower", keys=ALL | OPEN),
    Arm("wide model: no checkpointing, frozen tower", model="wide", keys=OFF),
    Arm("wide model: checkpointing of trained layers", model="wide", keys=TRAINED),
    Arm("wide model: checkpointing of all layers", model="wide", keys=ALL),
    Arm("wide model: no checkpointing, open tower", model="wide", keys=OFF | OPEN),
)
# A photo of 54 x 54 patches is 756 x 756 pixels: 729 tokens, the budget of the shipped recipes.
GPU_ARMS = tuple(
    Arm(f"{size}, {name}", f"Qwen2.5-VL-{size}-Instruct", keys, batch, 280, 54, True)
    for size in ("7B", "3B")
    for name, keys, batch in (
        ("no checkpointing, one photo", OFF, 1),
        ("checkpointing of trained layers, one photo", TRAINED, 1),
        ("checkpointing of all layers, four photos", ALL, 4),
        ("open tower, checkpointing of all layers, four photos", ALL | OPEN, 4),
    )
)


def model_directory(name: str, scratch: Path) -> Path:
    """A directory that LLaMA-Factory loads from: the tiny model, or its tokenizer beside another config.json."""
    from launch.plan.architecture import published_config

    if name == "tiny":
        return TINY
    directory = scratch / name
    if not directory.is_dir():
        ignored = shutil.ignore_patterns("*.safetensors", "config.json")
        shutil.copytree(TINY, directory, ignore=ignored)
        config = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
        text, vision = config["text_config"], config["vision_config"]
        if name == "wide":
            text |= {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "vocab_size": 8192}
            text |= {"num_attention_heads": 8, "layer_types": ["full_attention"] * 6}
            vision |= {"hidden_size": 128, "intermediate_size": 320, "depth": 4, "out_hidden_size": 256}
            vision["fullatt_block_indexes"] = [3]
        else:
            published = published_config(name)
            vision |= published.pop("vision_config")
            text |= {key: value for key, value in published.items() if key in text}
            text["layer_types"] = ["full_attention"] * text["num_hidden_layers"]
            text["rope_parameters"] |= {"mrope_section": [16, 24, 24]}
            config |= {"tie_word_embeddings": text["tie_word_embeddings"], "dtype": "bfloat16"}
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def load(arm: Arm, directory: Path, device: str) -> Any:
    """The model that LLaMA-Factory would train."""
    import torch
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer

    recipe = {
        "model_name_or_path": str(directory),
        "train_from_scratch": directory != TINY,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_dropout": 0.1,
        "template": "qwen2_vl",
        "dataset": "none",
        "output_dir": str(directory.parent / "never"),
        "report_to": "none",
        "use_cpu": device == "cpu",
    }
    torch.manual_seed(0)
    # LLaMA-Factory does not look at the Trainer's own key, which acts when training starts.
    keys = {key: value for key, value in arm.keys.items() if key != "gradient_checkpointing"}
    model_args, _, _, finetuning_args, _ = get_train_args(recipe | keys)
    tokenizer = load_tokenizer(model_args)["tokenizer"]
    model = load_model(tokenizer, model_args, finetuning_args, is_trainable=True)
    if arm.keys.get("gradient_checkpointing"):
        model.gradient_checkpointing_enable()  # as Trainer.train does
    return (model.bfloat16() if arm.sixteen_bit else model.float()).to(device)


def make_batch(arm: Arm, config: Any, device: str) -> dict[str, Any]:
    """Random photos and texts; the first text is shorter than the others, so that there is a padding mask."""
    import torch

    photo = (arm.side // config.vision_config.spatial_merge_size) ** 2
    ids = torch.randint(20, 500, (arm.batch, photo + arm.text))
    ids[:, 0], ids[:, photo + 1] = config.vision_start_token_id, config.vision_end_token_id
    ids[:, 1 : photo + 1] = config.image_token_id
    labels = ids.clone()
    labels[:, :-3] = -100
    mask = torch.ones_like(ids)
    mask[0, -2:] = 0
    values = 3 * config.vision_config.temporal_patch_size * config.vision_config.patch_size**2
    tensors = {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": mask,
        "pixel_values": torch.randn(arm.batch * arm.side**2, values),
        "image_grid_thw": torch.tensor([[1, arm.side, arm.side]] * arm.batch),
        "mm_token_type_ids": (ids == config.image_token_id).int(),
    }
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def peak_of_step(model: Any, batch: dict[str, Any], device: str) -> int:
    """Bytes that one training step holds at most, beside what was there before it."""
    import torch

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # creates the optimiser's states
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    held = peak = 0
    for change in _allocations(profiler):
        held += change
        peak = max(peak, held)
    return peak


def _allocations(profiler: Any) -> Iterator[int]:
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))


def measure(arm: Arm, directory: Path, device: str) -> dict[str, Any]:
    """One arm: measured and estimated bytes of a step, and whether the numbers of weights are right."""
    from launch.plan.activations import Batch
    from launch.plan.architecture import find_architecture
    from launch.plan.estimate import estimate_memory, lora_parameters
    from launch.plan.settings import read_settings

    model = load(arm, directory, device)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    batch = make_batch(arm, model.config, device)
    measured = peak_of_step(model, batch, device)
    architecture = find_architecture(str(directory))
    keys = {"lora_dropout": 0.1, "per_device_train_batch_size": arm.batch, "bf16": arm.sixteen_bit} | arm.keys
    settings = read_settings(keys, architecture, arm.name)
    seen = Batch(arm.batch, batch["input_ids"].shape[1], arm.batch, arm.side**2)
    memory = estimate_memory(architecture, settings, seen, gpus=1, on_cpu=device == "cpu")
    inputs = batch["pixel_values"].nbytes  # was there before the step
    estimated = memory.activations + memory.logits - inputs + trained * settings.item
    return {
        "arm": arm.name,
        "measured_mib": round(measured / MIB, 2),
        "estimated_mib": round(estimated / MIB, 2),
        "ratio": round(estimated / measured, 3),
        "phase": memory.phase,
        "weights_exact": (frozen, trained) == (architecture.parameters, lora_parameters(architecture, settings)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, help="measure the first so many arms only (default: all)")
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    arguments = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "LLAMAFACTORY_VERBOSITY": "ERROR", "OMP_NUM_THREADS": "1"}
    import torch

    gpu = torch.cuda.is_available()
    result: dict[str, Any] = {"benchmark": "plan_memory", "processor": processor_name()}
    result["gpu"] = torch.cuda.get_device_name() if gpu else "not measured: no GPU"
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for arm in (GPU_ARMS if gpu else CPU_ARMS)[: arguments.arms]:
            row = measure(arm, model_directory(arm.model, Path(scratch)), "cuda" if gpu else "cpu")
            print(f"{row['arm']:<52}{row['measured_mib']:>10.2f}{row['estimated_mib']:>10.2f}{row['ratio']:>8.3f}")
            rows.append(row)
            gc.collect()
    ratios = [row["ratio"] for row in rows]
    result |= {"lowest_ratio": min(ratios), "highest_ratio": max(ratios), "arms": rows}
    finish(result, arguments.out)


if __name__ == "__main__":
    main()
