"""RiskFuse's label scorer against the usual ways of predicting: same model, photos, cores and run.

The usual way, as model cards show it: chat template, processor and ``generate`` with up to 128 new tokens, one photo at
a time, then the text is parsed. How long that takes depends on how much the model says, so it is measured twice: as it
speaks (a fine-tuned model stops after its answer) and for a model that goes on to the limit. With an adapter it is
measured as most inference scripts have it too: beside the base, by PEFT, and not merged. A last way gives the same
numbers as the scorer: one forward pass an answer. These run in one process with a thread a core, as PyTorch does by
itself. The scorer gives all answers' log-probabilities for a batch of photos in one pass, in one process a core with
one thread each, as ``riskfuse predict --workers CORES`` runs it. Its share of what the device reaches in a plain matrix
product is reported too: two operations a weight and token of the language model, or patch of the tower; attention is
not counted, nor what stands before the photo, which is computed once. Loading is not counted for any way. Prints a
table; the last line is one JSON object. Writes nothing else unless --out is given.

With --size 3b or 7b all ways run on a GPU, in one process, with the published size in bf16 and random weights, which
say what they say until the limit; photos have the recipe's full pixel budget. Without a GPU: "not measured".

Examples:
    python benchmarks/predict_vs_loop.py --data data/corridor --adapter saves/board/base
    python benchmarks/predict_vs_loop.py --size 7b --photos 32 --out benchmarks/results/predict_vs_loop_7b.gpu.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish, no_gpu, processor_name, timed
from train_throughput import MATRIX, matrix_peak

WARM_UP_PHOTOS = 4
CPU_MATRIX = 1024  # side of the matrices whose product is the CPU's peak
LIMIT_PHOTOS = 8  # generating to the limit is slow, and takes the same time for every photo


def parse_arguments(description: str | None = __doc__) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tiny/base.yaml"))
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"))
    parser.add_argument("--size", choices=("tiny", "3b", "7b"), default="tiny", help="3b and 7b need a GPU")
    parser.add_argument("--data", type=Path, help="data set directory; noise photos without it")
    parser.add_argument("--adapter", default="none", help="adapter directory, or none for the bare base (default)")
    parser.add_argument("--photos", type=int, default=128)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of all ways")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="of this machine to use (default: all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def photo_paths(arguments: argparse.Namespace, scratch: Path, side: int = 168) -> list[str]:
    """Paths of the photos: validation and test photos of a data set, or noise of ``side`` x ``side`` pixels."""
    from dataset_builders.manifest import read_manifest

    if arguments.data is not None:
        rows = [row for row in read_manifest(arguments.data) if row.usable and row.split != "train"]
        return [str(arguments.data / row.image) for row in rows[: arguments.photos]]
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for number in range(arguments.photos):
        path = scratch / f"{number}.png"
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(path)
        paths.append(str(path))
    return paths


class ScorerPool:
    """Label scorers in processes of one thread each; the first call loads them, and needs a batch for each."""

    def __init__(self, job: Any, processes: int, batch_size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._size = batch_size
        self._pool = ProcessPoolExecutor(
            processes, context, initializer=_load_scorer, initargs=(job, context.Barrier(processes))
        )

    def __call__(self, photos: list[str]) -> np.ndarray:
        """Log-probabilities [photos, answers]."""
        batches = [photos[start : start + self._size] for start in range(0, len(photos), self._size)]
        return np.concatenate(list(self._pool.map(_score_batch, batches)))


def _in_turn(job: Any, loaded: Any) -> Callable[[list[str]], np.ndarray]:
    """The same in this process, with a model that is loaded."""
    from launch.predict.scorer import LabelScorer

    global _scorer
    _scorer = LabelScorer(loaded, job.prompt, job.answers)

    def score(photos: list[str]) -> np.ndarray:
        batches = [photos[start : start + job.batch_size] for start in range(0, len(photos), job.batch_size)]
        return np.concatenate([_score_batch(batch) for batch in batches])

    return score


def _load_scorer(job: Any, all_loaded: Any) -> None:
    from launch.predict.model import load_for_prediction
    from launch.predict.scorer import LabelScorer

    global _scorer
    _scorer = LabelScorer(load_for_prediction(job.spec), job.prompt, job.answers)
    all_loaded.wait()


def _score_batch(paths: list[str]) -> np.ndarray:
    from PIL import Image

    return _scorer.score([Image.open(path).convert("RGB") for path in paths])


def random_recipe(size: str, scratch: Path) -> Path:
    """A recipe on a published size with random weights, made on the GPU and written to the disk."""
    import torch
    import yaml
    from plan_memory import model_directory
    from transformers import AutoConfig, AutoModelForImageTextToText

    directory = model_directory(f"Qwen2.5-VL-{size.upper()}-Instruct", scratch)
    with torch.device("cuda"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(directory), dtype=torch.bfloat16)
    model.save_pretrained(directory)
    recipe = yaml.safe_load(Path("recipes/base.yaml").read_text(encoding="utf-8"))
    path = scratch / "base.yaml"
    path.write_text(yaml.safe_dump(recipe | {"model_name_or_path": str(directory)}), encoding="utf-8")
    return path


class UsualWay:
    """Generate and parse, one photo at a time."""

    def __init__(self, model: Any, directory: str, recipe: Mapping[str, Any], prompt: Any, texts: list[str]) -> None:
        from transformers import AutoProcessor

        self._model, self._texts = model, texts
        self._processor = AutoProcessor.from_pretrained(directory)
        budget = {"shortest_edge": recipe["image_min_pixels"], "longest_edge": recipe["image_max_pixels"]}
        self._options = {"return_tensors": "pt", "images_kwargs": {"size": budget}}
        question = [{"type": "image"}, {"type": "text", "text": prompt.user}]
        self._talk = [{"role": "system", "content": prompt.system}, {"role": "user", "content": question}]

    def __call__(self, path: str, limit: int, least: int = 0) -> tuple[str | None, int]:
        """The answer that the text holds, and the number of new tokens."""
        import torch
        from PIL import Image

        photo = Image.open(path).convert("RGB")
        text = self._processor.apply_chat_template(self._talk, tokenize=False, add_generation_prompt=True)
        inputs = self._processor(text=[text], images=[photo], **self._options).to(self._model.device)
        with torch.inference_mode():
            output = self._model.generate(**inputs, max_new_tokens=limit, min_new_tokens=least, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        said = self._processor.batch_decode(new, skip_special_tokens=True)[0]
        return next((answer for answer in self._texts if answer in said), None), new.shape[1]


def unmerged_model(directory: str, adapter: str, loaded: Any) -> Any:
    """The base with the adapter's layers beside its own, on the device and in the number type of ``loaded``."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    base = AutoModelForImageTextToText.from_pretrained(directory, dtype=loaded.model.dtype).to(loaded.device)
    return PeftModel.from_pretrained(base, adapter).eval()


def pass_an_answer(loaded: Any, encoder: Any, answers: list[list[int]], path: str) -> list[float]:
    """The log-probability of every answer (token ids) by one forward pass each."""
    import torch
    from PIL import Image

    photo = Image.open(path).convert("RGB")
    encoded = encoder.encode([photo])
    prompt, found = encoded.prompt_ids[0], []
    for answer in answers:
        ids = torch.tensor([prompt + answer], device=loaded.device)
        kinds = (ids == loaded.model.config.image_token_id).int()
        vision = {name: tensor.to(loaded.device) for name, tensor in encoded.vision.items()}
        with torch.inference_mode():
            logits = loaded.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=kinds, **vision
            ).logits[0, len(prompt) - 1 : -1]
        found.append(float(logits.float().log_softmax(-1)[torch.arange(len(answer)), answer].sum()))
    return found


def operations_a_photo(loaded: Any, encoder: Any, path: str) -> float:
    """Operations of the matrix products by weights in the scorer's pass over one photo."""
    from PIL import Image

    encoded = encoder.encode([Image.open(path).convert("RGB")])
    ids, model = encoded.prompt_ids[0], loaded.model
    tokens = len(ids) - ids.index(model.config.image_token_id)
    patches = int(encoded.vision["image_grid_thw"].prod())
    tower = sum(weight.numel() for name, weight in model.named_parameters() if "visual" in name)
    words = model.get_input_embeddings().weight.numel() + model.get_output_embeddings().weight.numel()
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    layers = sum(weight.numel() for weight in model.parameters()) - tower - (words // 2 if tied else words)
    return 2.0 * (layers * tokens + tower * patches)


def base_job(arguments: argparse.Namespace, device: str) -> Any:
    """What the recipe's model is asked about each photo, as ``riskfuse predict --stage base`` asks it."""
    from launch.predict.config import PredictConfig
    from launch.predict.plan import scoring_job

    return scoring_job(
        PredictConfig(
            recipe=arguments.recipe,
            task=arguments.task,
            stage="base",
            out=Path("unused"),
            data=Path("unused"),
            adapter=arguments.adapter,
            device=device,
            threads=1,
            batch_size=arguments.batch_size,
            dtype=arguments.dtype,
        )
    )


def measure(arguments: argparse.Namespace, paths: list[str]) -> dict[str, Any]:
    """Run all ways in turn, ``repeats`` times each, in this process."""
    import torch
    from PIL import Image

    from launch.predict.inputs import InputEncoder
    from launch.predict.model import load_for_prediction
    from launch.recipe import load_recipe

    device = "cpu" if arguments.size == "tiny" else "cuda"
    job = base_job(arguments, device)
    loaded = load_for_prediction(job.spec)
    torch.set_num_threads(arguments.cores)
    encoder = InputEncoder(loaded, job.prompt, job.answers)
    processes = min(arguments.cores, -(-len(paths) // arguments.batch_size))
    score = ScorerPool(job, processes, arguments.batch_size) if device == "cpu" else _in_turn(job, loaded)
    texts = [answer.text for answer in job.answers]
    recipe, limit = load_recipe(arguments.recipe), arguments.max_new_tokens
    usual = UsualWay(loaded.model, recipe.model_name_or_path, recipe.raw, job.prompt, texts)

    answers = encoder.answer_ids(Image.open(paths[0]).convert("RGB"))
    some = paths[:LIMIT_PHOTOS]
    ways: dict[str, tuple[list[str], Callable[[], Any]]] = {
        "scorer": (paths, lambda: score(paths)),
        "generate": (paths, lambda: [usual(path, limit) for path in paths]),
        "generate_to_limit": (some, lambda: [usual(path, limit, limit) for path in some]),
        "pass_an_answer": (paths, lambda: [pass_an_answer(loaded, encoder, answers, path) for path in paths]),
    }
    score(paths)
    for path in paths[:WARM_UP_PHOTOS]:
        usual(path, limit)
    if job.spec.adapter is not None:
        model = unmerged_model(recipe.model_name_or_path, job.spec.adapter, loaded)
        beside = UsualWay(model, recipe.model_name_or_path, recipe.raw, job.prompt, texts)
        ways["generate_unmerged"] = paths, lambda: [beside(path, limit) for path in paths]
        for path in paths[:WARM_UP_PHOTOS]:
            beside(path, limit)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results: dict[str, Any] = {}
    for _ in range(arguments.repeats):
        for way, (photos, work) in ways.items():
            took, results[way] = timed(work)
            seconds[way].append(took / len(photos))
    median = {way: statistics.median(values) for way, values in seconds.items()}
    scored = [texts[best] for best in results["scorer"].argmax(axis=1)]
    cpu = device == "cpu"
    peak = matrix_peak(device, CPU_MATRIX if cpu else MATRIX)
    share = operations_a_photo(loaded, encoder, paths[0]) / median["scorer"] / peak
    agree = [text == best for (text, _), best in zip(results["generate"], scored, strict=True) if text is not None]
    return {
        "benchmark": "predict_vs_loop",
        "size": arguments.size,
        "photos": len(paths),
        "device": "cpu" if cpu else torch.cuda.get_device_name(),
        "cores": arguments.cores,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "processor": processor_name(),
        "repeats": arguments.repeats,
        "batch_size": arguments.batch_size,
        "max_new_tokens": limit,
        "mean_new_tokens": round(statistics.mean(count for _, count in results["generate"]), 1),
        "photos_per_s": {way: round(1 / value, 2) for way, value in median.items()},
        "ratios": {way: round(value / median["scorer"], 2) for way, value in median.items() if way != "scorer"},
        "matrix_peak_tflops": round(peak / 1e12, 3),
        "share_of_matrix_peak": round(share, 3),
        "generate_parsed": round(len(agree) / len(paths), 3),
        "agreement_where_parsed": round(statistics.mean(agree), 3) if agree else None,
        "largest_difference_to_pass_an_answer": float(np.abs(results["scorer"] - results["pass_an_answer"]).max()),
    }


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.size != "tiny" and (reason := no_gpu()):
        finish({"benchmark": "predict_vs_loop", "size": arguments.size, "not_measured": reason}, arguments.out)
        return
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.size != "tiny":
            arguments.recipe = random_recipe(arguments.size, Path(scratch))
        side = 168 if arguments.size == "tiny" else 756
        result = measure(arguments, photo_paths(arguments, Path(scratch), side))
    print(f"{'way':<46}{'photos/s':>10}{'the scorer is':>16}")
    names = {
        "scorer": "label scorer, batches",
        "generate": f"generate + parse, {result['mean_new_tokens']} new tokens",
        "generate_to_limit": f"generate + parse, {arguments.max_new_tokens} new tokens",
        "generate_unmerged": "generate + parse, adapter not merged",
        "pass_an_answer": "one forward pass an answer",
    }
    for way, rate in result["photos_per_s"].items():
        ratio = f"{result['ratios'][way]:.1f} x faster" if way in result["ratios"] else ""
        print(f"{names[way]:<46}{rate:>10.2f}{ratio:>16}")
    print(f"the scorer reaches {result['share_of_matrix_peak']:.0%} of a plain matrix product's speed")
    finish(result, arguments.out)


if __name__ == "__main__":
    main()
