"""RiskFuse's augmentation against the usual loop: same photos, same transforms, same cores, one run.

The usual way, as competition code has it: for every copy open the JPEG with Pillow, apply one torchvision or Pillow
transform after the other, save a JPEG. It runs in one process; torch may use all cores. A second loop saves and opens
the JPEG between the transforms, as scripts do that write one augmented folder after the other. RiskFuse's own
transforms have no counterpart there, so both sides get the transforms of recipes/augment/classic.yaml with the same
probabilities and ranges; the VL-ADAS policy is timed as well. As a floor, JPEG coding alone is timed: decode a photo
once for all its copies, encode every copy, in as many processes.

Starting RiskFuse's processes (they import albumentations) takes two or three seconds, once, whatever the number of
photos. Its clock therefore starts after the first 16 photos a process, and it gets ten times as many photos as the
loops.

Peak memory is measured in the whole process tree, for a part of the photos and for all of them. Prints a table; the
last line is one JSON object. Writes nothing else unless --out is given.

Example:
    python benchmarks/augment_vs_loop.py --photos 300 --side 1280 --repeats 1
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish, timed

COPIES = 4  # of a photo
SCENES = 60  # different photos
LOOP_SHARE = 0.1  # of the photos that the loops are timed on; they have no start to wait for
TASK = Path("recipes/tasks/corridor.yaml")
CLASSIC = Path("recipes/augment/classic.yaml")
VL_ADAS = Path("recipes/augment/corridor.yaml")
QUALITY = 92


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000, help=f"photos; each gets {COPIES} copies (default: 2000)")
    parser.add_argument("--side", type=int, default=336, help="side of the square photos in pixels (default: 336)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="of this machine to use (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="the median is reported (default: 3)")
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    arguments = parser.parse_args()
    if arguments.photos < 32 * arguments.cores:
        parser.error(f"--photos must be at least {32 * arguments.cores} for {arguments.cores} cores")
    return arguments


def render_photos(directory: Path, count: int, side: int) -> list[Path]:
    """Rendered corridors, enlarged to the wanted size and saved as JPEG; the first ``SCENES`` come again and again."""
    import cv2

    from dataset_builders.scenes.compose import GRADES, render_scene

    directory.mkdir(parents=True)
    paths = [directory / f"{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if number >= SCENES:
            shutil.copyfile(paths[number % SCENES], path)
            continue
        rgb_HWC = render_scene(GRADES[number % len(GRADES)], 7, number, 0.15, 0).rgb_HWC
        rgb_HWC = cv2.resize(rgb_HWC, (side, side), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(path), rgb_HWC[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths


def loop_transforms(photo: Any, rng: random.Random) -> Iterator[Any]:
    """The transforms of the classic policy in Pillow and torchvision; yields the picture after each that is applied."""
    import torch
    from PIL import Image, ImageFilter
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F  # noqa: N812 - as its documentation writes it

    width, height = photo.size
    bilinear = InterpolationMode.BILINEAR
    if rng.random() < 0.5:
        yield (photo := F.hflip(photo))
    if rng.random() < 0.35:
        left, top, right, bottom = (rng.uniform(0, 0.22) for _ in range(4))
        box = [
            round(top * height),
            round(left * width),
            round((1 - top - bottom) * height),
            round((1 - left - right) * width),
        ]
        yield (photo := F.resized_crop(photo, *box, [height, width], bilinear))
    if rng.random() < 0.5:
        angle, scale = rng.uniform(-12, 12), rng.uniform(0.7, 1.0)
        yield (photo := F.affine(photo, angle, [0, 0], scale, [0.0, 0.0], bilinear))
    if rng.random() < 0.3:
        corners = [[0, 0], [width, 0], [width, height], [0, height]]
        moved = [[x + rng.uniform(-0.05, 0.05) * width, y + rng.uniform(-0.05, 0.05) * height] for x, y in corners]
        yield (photo := F.perspective(photo, corners, moved, bilinear))
    if rng.random() < 0.5:
        photo = F.adjust_hue(photo, rng.uniform(-30, 30) / 360)
        photo = F.adjust_saturation(photo, rng.uniform(0.7, 1.3))
        yield (photo := F.adjust_brightness(photo, rng.uniform(0.8, 1.2)))
    if rng.random() < 0.2:
        yield (photo := F.adjust_gamma(photo, rng.uniform(1.4, 2.5)))
    if rng.random() < 0.2:
        if rng.random() < 0.5:
            yield (photo := F.gaussian_blur(photo, [7, 7], [rng.uniform(0.5, 1.5)] * 2))
        else:
            yield (photo := photo.filter(ImageFilter.BoxBlur(rng.uniform(1, 4))))
    if rng.random() < 0.2:
        tensor = F.to_tensor(photo)
        tensor = (tensor + torch.randn_like(tensor) * rng.uniform(0.01, 0.05)).clamp(0, 1)
        yield (photo := F.to_pil_image(tensor))
    if rng.random() < 0.2:
        yield (photo := Image.open(io.BytesIO(jpeg_bytes(photo, rng.randint(40, 90)))).convert("RGB"))


def jpeg_bytes(photo: Any, quality: int) -> bytes:
    """The photo as JPEG."""
    buffer = io.BytesIO()
    photo.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def run_loop(paths: Sequence[Path], out: Path, *, save_between: bool) -> None:
    """Make the copies the usual way."""
    from PIL import Image

    out.mkdir(parents=True)
    rng = random.Random(0)
    for path in paths:
        for number in range(COPIES):
            target = out / f"{path.stem}_{number}.jpg"
            with Image.open(path) as opened:
                photo = opened.convert("RGB")
            for changed in loop_transforms(photo, rng):
                photo = changed
                if save_between:
                    photo.save(target, quality=QUALITY)
                    with Image.open(target) as opened:
                        photo = opened.convert("RGB")
            photo.save(target, quality=QUALITY)


def run_riskfuse(paths: Sequence[Path], out: Path, policy: Path, cores: int) -> float:
    """Make the copies as ``riskfuse augment`` makes them, files and parts included.

    Returns:
        Copies a second, counted from when every process has delivered its first unit of work.
    """
    from dataset_builders.augment.config import load_augment_config
    from dataset_builders.augment.copies import CHUNK, Job, make_copies
    from dataset_builders.task_card import load_task_card

    card = load_task_card(TASK)
    config = load_augment_config(policy).with_changes({"workers": cores, "jpeg_quality": QUALITY})
    shutil.copytree(paths[0].parent, out / "images" / "photos", copy_function=os.link)
    labels = card.label_ids
    jobs = [
        Job(f"photos/{path.name}", labels[number % len(labels)], f"images/photos/{path.name}", COPIES)
        for number, path in enumerate(paths)
    ]
    first = cores * CHUNK * COPIES
    begun = made = 0.0
    for made, _ in enumerate(make_copies(jobs, out, config, card), start=1):
        if made == first:
            begun = time.perf_counter()
    return (made - first) / (time.perf_counter() - begun)


def code_jpeg(path: str) -> int:
    """Decode one photo and encode it for each copy: what no augmentation can do without."""
    import cv2

    cv2.setNumThreads(1)
    photo = cv2.imread(path)
    return sum(len(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]) for _ in range(COPIES))


def run_coding(paths: Sequence[Path], cores: int) -> float:
    """JPEG coding alone, in as many processes; copies a second as in ``run_riskfuse``."""
    from dataset_builders.processes import map_in_processes

    chunk, begun, done = 16, 0.0, 0
    coded = map_in_processes(code_jpeg, map(str, paths), workers=cores, chunk=chunk, remedy="use fewer --cores")
    for done, _ in enumerate(coded, start=1):
        if done == cores * chunk:
            begun = time.perf_counter()
    return (done - cores * chunk) * COPIES / (time.perf_counter() - begun)


@contextmanager
def peak_memory_mib() -> Iterator[list[float]]:
    """Largest resident memory of this process and its children while the block runs, in MiB."""
    import psutil

    peak, done = [0.0], threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not done.wait(0.05):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], total / 2**20)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Run all sides in turns and report."""
    arguments = parse_arguments()
    scratch = Path(tempfile.mkdtemp(prefix="augment_vs_loop_"))
    try:
        result = measure(arguments, scratch)
    finally:
        shutil.rmtree(scratch)
    for name, rate in result["copies_per_s"].items():
        print(f"{name:<34}{rate:>9.1f} copies/s")
    for name, ratio in result["ratios"].items():
        print(f"{name:<34}{ratio:>9.2f}")
    memory = result["peak_memory_mib"]
    print(f"peak memory, part and all photos: {memory['part']:.0f} and {memory['all']:.0f} MiB")
    finish(result, arguments.out)


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Time every side ``repeats`` times, in turns, and take the median."""
    import torch

    torch.set_num_threads(arguments.cores)
    paths = render_photos(scratch / "photos", arguments.photos, arguments.side)
    cores = arguments.cores
    few = paths[: max(SCENES, round(LOOP_SHARE * len(paths)))]
    loops = {
        "loop": lambda out: run_loop(few, out, save_between=False),
        "loop_saving_between": lambda out: run_loop(few, out, save_between=True),
    }
    policies = {"riskfuse_classic": CLASSIC, "riskfuse_vl_adas": VL_ADAS}
    run_loop(paths[:1], scratch / "warm_up", save_between=False)  # imports torchvision
    measured: dict[str, list[float]] = {name: [] for name in (*loops, *policies, "jpeg_coding_alone")}
    for repeat in range(arguments.repeats):
        for name, loop in loops.items():
            measured[name].append(
                len(few) * COPIES / timed(lambda loop=loop, out=scratch / f"{name}{repeat}": loop(out))[0]
            )
            shutil.rmtree(scratch / f"{name}{repeat}", ignore_errors=True)
        for name, policy in policies.items():
            measured[name].append(run_riskfuse(paths, scratch / f"{name}{repeat}", policy, cores))
            shutil.rmtree(scratch / f"{name}{repeat}")
        measured["jpeg_coding_alone"].append(run_coding(paths, cores))
    rates = {name: float(np.median(values)) for name, values in measured.items()}
    memory = {}
    for name, part in (("part", paths[: max(32 * cores, len(paths) // 4)]), ("all", paths)):
        with peak_memory_mib() as peak:
            run_riskfuse(part, scratch / f"memory_{name}", VL_ADAS, cores)
        memory[name] = peak[0]
    return {
        "benchmark": "augment_vs_loop",
        "device": f"{platform.processor() or platform.machine()}, {cores} cores",
        "photos": len(paths),
        "copies": len(paths) * COPIES,
        "side_px": arguments.side,
        "copies_per_s": rates,
        "ratios": {
            "classic_vs_loop": rates["riskfuse_classic"] / rates["loop"],
            "classic_vs_loop_saving_between": rates["riskfuse_classic"] / rates["loop_saving_between"],
            "vl_adas_vs_loop": rates["riskfuse_vl_adas"] / rates["loop"],
            "classic_vs_jpeg_coding_alone": rates["riskfuse_classic"] / rates["jpeg_coding_alone"],
        },
        "peak_memory_mib": memory,
    }


if __name__ == "__main__":
    main()
