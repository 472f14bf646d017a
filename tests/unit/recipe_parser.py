"""Runs LLaMA-Factory's own parser over recipes: ``python recipe_parser.py RECIPE...`` prints one JSON object.

A process of its own, since parsing sets up torch.distributed and DeepSpeed; a fork for each recipe, since what one
recipe sets up would change how the next one is read.
"""

import json
import os
import socket
import sys
import traceback
from pathlib import Path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def parse(path: str) -> str:
    """Parse one recipe as ``llamafactory-cli`` would; returns its error, empty when there is none."""
    import torch
    import yaml
    from llamafactory.hparams import get_infer_args, get_train_args

    keys = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    sys.argv = ["llamafactory", path]
    try:
        if "export_dir" in keys:
            get_infer_args()
            return ""
        if keys.get("bf16") and not torch.cuda.is_available():
            sys.argv.append("use_cpu=true")  # without a GPU, bf16 is refused otherwise
        if keys.get("deepspeed"):
            distributed = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": free_port()}
            os.environ.update({name: str(value) for name, value in distributed.items()})
            os.environ["MASTER_ADDR"] = "127.0.0.1"
        get_train_args()
    except (Exception, SystemExit):  # noqa: BLE001 - whatever it is, it is the test's finding
        return traceback.format_exc()
    return ""


def main() -> None:
    from llamafactory.hparams import get_train_args  # noqa: F401 - imported once, before the forks

    errors = {}
    for path in sys.argv[1:]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                pipe.write(parse(path))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            errors[path] = pipe.read()
        _, status = os.waitpid(child, 0)
        if status:
            errors[path] += f"the parser ended with status {status}"
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
