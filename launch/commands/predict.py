"""``riskfuse predict``: score every answer of a stage for every photo of a list."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataset_builders.errors import ConfigError
from dataset_builders.stores import location

if TYPE_CHECKING:
    from launch.predict import PredictReport

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "log-probabilities of every answer for every photo, by one stage's model; resumable"
EXAMPLE = (
    "riskfuse predict --recipe recipes/tiny/base.yaml --task recipes/tasks/corridor.yaml --stage base "
    "--data data/corridor --splits val,test --out predictions/base --workers 2"
)
SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    required = parser.add_argument_group("what to predict")
    required.add_argument("--recipe", type=Path, required=True, help="training recipe: model, template, pixel budget")
    required.add_argument("--task", type=Path, required=True, help="task card")
    required.add_argument("--stage", required=True, help="stage of the task card: base or a specialist's name")
    required.add_argument("--out", type=location, required=True, help="predictions directory, or its URI")
    photos = parser.add_argument_group("photos: a data set, or a list beside a directory; paths or URIs")
    photos.add_argument("--data", type=location, help="data set directory with manifest.parquet")
    photos.add_argument("--splits", default="val,test", help="splits of the data set (default: val,test)")
    photos.add_argument("--folds", help="only rows of these folds of the data set, such as 0,2 (default: all)")
    photos.add_argument("--images", type=location, help="photo directory, with --list")
    photos.add_argument("--list", type=location, dest="photo_list", help="text file, one photo name a line")
    photos.add_argument("--sample", type=int, help="only so many photos, evenly spread over the list (for parity)")
    model = parser.add_argument_group("model")
    model.add_argument("--adapter", help="adapter directory (default: the recipe's output_dir); none: the bare base")
    model.add_argument("--merged", type=Path, help="merged model directory, in place of base and adapter")
    model.add_argument(
        "--views",
        choices=("none", "flip"),
        default="none",
        help="flip: also score the mirror image and average the probabilities, at twice the cost (default: none)",
    )
    model.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    model.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    work = parser.add_argument_group("work")
    work.add_argument(
        "--engine",
        choices=("ray", "local", "endpoint", "vllm"),
        help="Ray actors, this process alone, a server that is there, or a vLLM server that ends with the run "
        "(default: endpoint with --endpoint, otherwise ray)",
    )
    work.add_argument("--workers", type=int, default=1, help="Ray actors; any number gives the same bytes (default: 1)")
    work.add_argument("--address", help="Ray cluster to join (default: a private one)")
    work.add_argument("--batch-size", type=int, default=16, help="photos in a forward pass (default: 16)")
    work.add_argument("--shard-size", type=int, default=128, help="photos in a part file (default: 128)")
    work.add_argument("--threads", type=int, default=1, help="CPU threads of a worker (default: 1)")
    _add_server_arguments(parser)
    work.add_argument("--metrics", type=Path, help="keep this file up to date for Prometheus (textfile collector)")
    work.add_argument("--json", action="store_true", help="print one JSON object in place of the text")
    work.add_argument("--overwrite", action="store_true", help="remove parts of another configuration or other photos")


def _add_server_arguments(parser: argparse.ArgumentParser) -> None:
    both = parser.add_argument_group("engines endpoint and vllm")
    both.add_argument("--in-flight", type=int, default=16, help="photos asked about at the same time (default: 16)")
    both.add_argument(
        "--reading",
        choices=("first-token", "whole"),
        help="first-token: one request a photo, any server, upper bounds; whole: every token of every answer, exact, "
        "vLLM alone (default: whole for engine vllm, otherwise first-token)",
    )
    both.add_argument(
        "--top-logprobs", type=int, default=20, help="log-probabilities that first-token asks for (default: 20)"
    )
    endpoint = parser.add_argument_group("engine endpoint: photos are sent to an OpenAI-compatible server")
    endpoint.add_argument("--endpoint", metavar="URL", help="its base address, such as http://127.0.0.1:8000/v1")
    endpoint.add_argument("--endpoint-model", metavar="NAME", help="the model's name there")
    endpoint.add_argument("--api-key-env", metavar="NAME", help="environment variable with the key (default: no key)")
    endpoint.add_argument("--plain-http", action="store_true", help="send photos to another machine unencrypted")
    vllm = parser.add_argument_group("engine vllm: a server on this machine that ends with the run")
    vllm.add_argument("--vllm-python", type=Path, metavar="PATH", help="Python of the environment that has vLLM")
    vllm.add_argument("--vllm-args", default="", metavar="WORDS", help="more options of vLLM's server, in one argument")
    vllm.add_argument("--vllm-wait-s", type=float, default=900.0, help="time to load the model (default: 900)")


def run(args: argparse.Namespace) -> int:
    """Predict; 0 when every photo was read, 1 when photos or shards failed (they are listed)."""
    import contextlib

    from launch.predict import predict

    with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):  # for what the libraries print
        report = predict(_config(args))
    for index, error in sorted(report.failed_shards.items()):
        print(f"part {index} failed:\n{error}", file=sys.stderr)
    for row in report.failed_rows[:SHOWN]:
        print(f"failed: {row['sample_id']}: {row['error']}", file=sys.stderr)
    if len(report.failed_rows) > SHOWN:
        print(f"… and {len(report.failed_rows) - SHOWN} more, in {report.out}/predictions.json", file=sys.stderr)
    if args.json:
        print(json.dumps(_as_json(report), ensure_ascii=False))
    if report.failed_shards:
        numbers = ", ".join(map(str, sorted(report.failed_shards)))
        print(f"riskfuse predict: parts {numbers} failed; the same command tries only these again", file=sys.stderr)
        return 1
    if not args.json:
        print(
            f"{report.out}: {report.rows} photos, {len(report.failed_rows)} failed ({report.quarantined} of them "
            f"quarantined by the build), {report.reused} parts were there already"
        )
    # Quarantined photos were reported by the build; a photo that fails only now is news.
    return 1 if len(report.failed_rows) > report.quarantined else 0


def _as_json(report: PredictReport) -> dict[str, Any]:
    return {
        "out": str(report.out),
        "complete": report.complete,
        "fingerprint": report.fingerprint,
        "rows": report.rows,
        "quarantined": report.quarantined,
        "failed_rows": report.failed_rows,
        "failed_shards": sorted(report.failed_shards),
        "reused_shards": report.reused,
    }


def _config(args: argparse.Namespace) -> Any:
    from pydantic import ValidationError

    from launch.predict import PredictConfig

    values = {name: getattr(args, name) for name in PredictConfig.model_fields if name not in ("splits", "folds")}
    values |= {"splits": _names(args.splits), "folds": None if args.folds is None else _names(args.folds)}
    try:
        return PredictConfig(**values)
    except ValidationError as error:
        findings = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'flags'}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{findings}. See riskfuse predict --help") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
