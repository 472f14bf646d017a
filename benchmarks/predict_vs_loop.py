"""RiskFuse's label scorer against the usual way of predicting: same model, photos, process and threads.

The usual way generates up to 128 tokens a photo, one photo at a time, and parses the text. The scorer gives the
log-probability of every answer for a batch of photos in one forward pass. Prints a table; the last line is one
JSON object. Writes nothing unless --out is given.

Example:
    python benchmarks/predict_vs_loop.py --recipe recipes/tiny/base.yaml --task recipes/tasks/corridor.yaml \
        --data data/demo --adapter none
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM_UP_PHOTOS = 4


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tiny/base.yaml"))
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"))
    parser.add_argument("--data", type=Path, help="data set directory; noise photos of 168 x 168 without it")
    parser.add_argument("--adapter", default="none", help="adapter directory, or none for the bare base (default)")
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def photo_paths(arguments: argparse.Namespace, scratch: Path) -> list[str]:
    """Paths of the photos: validation and test photos of a data set, or noise."""
    from dataset_builders.manifest import read_manifest

    if arguments.data is not None:
        rows = [row for row in read_manifest(arguments.data) if row.usable and row.split != "train"]
        return [str(arguments.data / row.image) for row in rows[: arguments.photos]]
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for number in range(arguments.photos):
        path = scratch / f"{number}.png"
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((168, 168)).save(path)
        paths.append(str(path))
    return paths


def generate_and_parse(loaded: Any, encoder: Any, texts: list[str], path: str, limit: int) -> tuple[str | None, int]:
    """The usual way for one photo: the answer that the text holds, and the number of new tokens."""
    import torch
    from PIL import Image

    encoded = encoder.encode([Image.open(path).convert("RGB")])
    ids = torch.tensor(encoded.prompt_ids)
    with torch.inference_mode():
        output = loaded.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == loaded.model.config.image_token_id).int(),
            **encoded.vision,
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=loaded.template.get_stop_token_ids(loaded.tokenizer),
            pad_token_id=loaded.tokenizer.pad_token_id,
        )
    new = output[0, ids.shape[1] :]
    text = loaded.tokenizer.decode(new, skip_special_tokens=True)
    return next((answer for answer in texts if answer in text), None), len(new)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one call."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def measure(arguments: argparse.Namespace, paths: list[str]) -> dict[str, Any]:
    """Run both ways in turn, ``repeats`` times each, in this process."""
    from PIL import Image

    from launch.predict.config import PredictConfig
    from launch.predict.model import load_for_prediction
    from launch.predict.plan import scoring_job
    from launch.predict.scorer import LabelScorer

    config = PredictConfig(
        recipe=arguments.recipe,
        task=arguments.task,
        stage="base",
        out=Path("unused"),
        data=Path("unused"),
        adapter=arguments.adapter,
        device="cpu",
        threads=arguments.threads,
    )
    job = scoring_job(config)
    loaded = load_for_prediction(job.spec)
    scorer = LabelScorer(loaded, job.prompt, job.answers)
    texts = [answer.text for answer in job.answers]

    def loop(photos: list[str]) -> list[tuple[str | None, int]]:
        return [generate_and_parse(loaded, scorer.encoder, texts, path, arguments.max_new_tokens) for path in photos]

    def score(photos: list[str]) -> list[str]:
        answers: list[str] = []
        for start in range(0, len(photos), arguments.batch_size):
            batch = [Image.open(path).convert("RGB") for path in photos[start : start + arguments.batch_size]]
            answers += [texts[best] for best in scorer.score(batch).argmax(axis=1)]
        return answers

    loop(paths[:WARM_UP_PHOTOS])
    score(paths[: arguments.batch_size])
    loop_s, score_s = [], []
    for _ in range(arguments.repeats):
        seconds, scored = timed(lambda: score(paths))
        score_s.append(seconds)
        seconds, generated = timed(lambda: loop(paths))
        loop_s.append(seconds)
    both = [(text, best) for (text, _), best in zip(generated, scored, strict=True) if text is not None]
    slow, fast = statistics.median(loop_s), statistics.median(score_s)
    return {
        "benchmark": "predict_vs_loop",
        "photos": len(paths),
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "batch_size": arguments.batch_size,
        "max_new_tokens": arguments.max_new_tokens,
        "mean_new_tokens": round(statistics.mean(count for _, count in generated), 1),
        "loop_photos_per_s": round(len(paths) / slow, 2),
        "scorer_photos_per_s": round(len(paths) / fast, 2),
        "ratio": round(slow / fast, 2),
        "loop_parsed": round(len(both) / len(paths), 3),
        "agreement_where_parsed": round(sum(text == best for text, best in both) / len(both), 3) if both else None,
    }


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(arguments, photo_paths(arguments, Path(scratch)))
    print(f"{'way':<34}{'photos/s':>10}")
    print(f"{'generate + parse, one at a time':<34}{result['loop_photos_per_s']:>10.2f}")
    print(f"{'label scorer, batches':<34}{result['scorer_photos_per_s']:>10.2f}")
    print(f"ratio {result['ratio']:.2f}, mean new tokens {result['mean_new_tokens']}, {result['photos']} photos")
    line = json.dumps(result)
    if arguments.out is not None:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
