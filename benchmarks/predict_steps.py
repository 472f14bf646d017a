"""What each step of the label scorer brings: same model, photos and run, one thread.

Each way adds one step to the way above it: one forward pass an answer; all answers behind one prompt; batches; what
stands before the photo computed once; raw pixels into a vision tower that works in larger steps
(`launch/predict/vision_kernels.py`). Then the same on photos that were cropped to many sizes, in the list's order and
sorted by their visual tokens, which leaves less to pad. How much of the way on whole photos is decoding and preparing
is reported apart; for the others it is the same and more. Loading is not counted. All ways must say the same; the
largest difference is reported. Prints a table; the last line is one JSON object. Writes nothing else unless --out is
given.

Example:
    python benchmarks/predict_steps.py --data data/corridor --adapter saves/board/base
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from harness import finish, processor_name, timed
from predict_vs_loop import base_job, parse_arguments, pass_an_answer, photo_paths

STEPS = {
    "pass_an_answer": "one forward pass an answer",
    "one_pass": "all answers in one pass",
    "batches": "batches of photos",
    "prefix": "the prompt's beginning once",
    "vision": "raw pixels, the vision tower in larger steps",
}
MIXED = {"list_order": "photos of many sizes, in the list's order", "by_tokens": "sorted by their visual tokens"}
SMALLEST = 0.3  # side of a crop, share of the photo's


def cropped(photos: list[Any]) -> list[Any]:
    """Photos of many sizes and shapes: a random rectangle of each."""
    rng = np.random.default_rng(0)
    boxes = [np.rint(rng.uniform(SMALLEST, 1, 2) * photo.size).astype(int) for photo in photos]
    return [photo.crop((0, 0, *box.tolist())) for photo, box in zip(photos, boxes, strict=True)]


def scorers(job: Any, load: Callable[[], Any]) -> dict[str, Any]:
    """A scorer without the last two steps, one without the last, and the scorer as it is."""
    import torch

    from launch.predict.batch import CommonPrefix
    from launch.predict.scorer import LabelScorer

    with patch("launch.predict.scorer.speed_up_vision"):
        plain, prefix = (LabelScorer(load(), job.prompt, job.answers) for _ in range(2))
    with torch.inference_mode():
        plain._prefix = CommonPrefix(plain._loaded, [])  # nothing is common
    return {"plain": plain, "prefix": prefix, "vision": LabelScorer(load(), job.prompt, job.answers)}


def measure(arguments: Any, paths: list[str]) -> dict[str, Any]:
    """Run all ways in turn, ``repeats`` times each, in this process."""
    from PIL import Image

    from launch.predict.model import load_for_prediction
    from launch.preflight.length import image_rules, image_tokens
    from launch.recipe import load_recipe

    job = base_job(arguments, "cpu")
    found = scorers(job, lambda: load_for_prediction(job.spec))
    plain = found["plain"]
    photos = [Image.open(path).convert("RGB") for path in paths]
    answers = plain.encoder.answer_ids(photos[0])
    mixed = cropped(photos)
    rules = image_rules(load_recipe(arguments.recipe))
    order = sorted(range(len(mixed)), key=lambda n: image_tokens(*mixed[n].size, rules))
    by_tokens = [mixed[n] for n in order]

    def in_batches(scorer: Any, size: int, photos: list[Any] = photos) -> np.ndarray:
        parts = [scorer.score(photos[start : start + size]) for start in range(0, len(photos), size)]
        return np.concatenate(parts)

    def preparing() -> None:
        for start in range(0, len(paths), arguments.batch_size):
            batch = paths[start : start + arguments.batch_size]
            found["vision"].encode([Image.open(path).convert("RGB") for path in batch])

    size = arguments.batch_size
    ways: dict[str, Callable[[], Any]] = {
        "pass_an_answer": lambda: np.array(
            [pass_an_answer(plain._loaded, plain.encoder, answers, path) for path in paths]
        ),
        "one_pass": lambda: in_batches(plain, 1),
        "batches": lambda: in_batches(plain, size),
        "prefix": lambda: in_batches(found["prefix"], size),
        "vision": lambda: in_batches(found["vision"], size),
        "list_order": lambda: in_batches(found["vision"], size, mixed),
        "by_tokens": lambda: in_batches(found["vision"], size, by_tokens),
        "preparing": preparing,
    }
    for scorer in found.values():
        scorer.score(photos[:size])
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results: dict[str, Any] = {}
    for _ in range(arguments.repeats):
        for way, work in ways.items():
            took, results[way] = timed(work)
            seconds[way].append(took / len(paths))
    ms = {way: round(1000 * statistics.median(values), 3) for way, values in seconds.items()}
    before = dict(zip(list(STEPS)[1:], STEPS, strict=False)) | {"by_tokens": "list_order"}
    differences = [np.abs(results[way] - results["vision"]).max() for way in STEPS]
    differences.append(np.abs(results["by_tokens"] - results["list_order"][order]).max())
    return {
        "benchmark": "predict_steps",
        "photos": len(paths),
        "cores": 1,
        "processor": processor_name(),
        "repeats": arguments.repeats,
        "batch_size": size,
        "ms_a_photo": ms,
        "ratios": {way: round(ms[previous] / ms[way], 2) for way, previous in before.items()},
        "largest_difference": float(max(differences)),
    }


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(arguments, photo_paths(arguments, Path(scratch)))
    print(f"{'way':<44}{'ms a photo':>12}{'step':>10}")
    for way, name in (STEPS | MIXED).items():
        ratio = f"{result['ratios'][way]:.2f} x" if way in result["ratios"] else ""
        print(f"{name:<44}{result['ms_a_photo'][way]:>12.2f}{ratio:>10}")
    print(f"{'of whole photos, reading and preparing':<44}{result['ms_a_photo']['preparing']:>12.2f}")
    finish(result, arguments.out)


if __name__ == "__main__":
    main()
