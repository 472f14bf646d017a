"""What each step of the label scorer brings: same model, photos and run, one thread.

Each way adds one step to the way above it: one forward pass an answer; all answers behind one prompt; batches; what
stands before the photo computed once; raw pixels into a vision tower that works in larger steps
(`launch/predict/vision_kernels.py`). How much of the last way is decoding and preparing photos is reported apart; for
the others it is the same and more. Loading is not counted. All ways must say the same; the
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

    job = base_job(arguments, "cpu")
    found = scorers(job, lambda: load_for_prediction(job.spec))
    plain = found["plain"]
    photos = [Image.open(path).convert("RGB") for path in paths]
    answers = plain.encoder.answer_ids(photos[0])

    def in_batches(scorer: Any, size: int) -> np.ndarray:
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
    before = dict(zip(list(STEPS)[1:], STEPS, strict=False))
    return {
        "benchmark": "predict_steps",
        "photos": len(paths),
        "cores": 1,
        "processor": processor_name(),
        "repeats": arguments.repeats,
        "batch_size": size,
        "ms_a_photo": ms,
        "ratios": {way: round(ms[previous] / ms[way], 2) for way, previous in before.items()},
        "largest_difference": max(float(np.abs(results[way] - results["vision"]).max()) for way in STEPS),
    }


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(arguments, photo_paths(arguments, Path(scratch)))
    print(f"{'way':<40}{'ms a photo':>12}{'step':>10}")
    for way, name in STEPS.items():
        ratio = f"{result['ratios'][way]:.2f} x" if way in result["ratios"] else ""
        print(f"{name:<40}{result['ms_a_photo'][way]:>12.2f}{ratio:>10}")
    print(f"{'of that, reading and preparing':<40}{result['ms_a_photo']['preparing']:>12.2f}")
    finish(result, arguments.out)


if __name__ == "__main__":
    main()
