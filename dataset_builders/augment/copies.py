"""Makes the copies of one photo after another: decoded once, transformed, encoded once, in parallel."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dataset_builders.augment.config import AugmentConfig
from dataset_builders.dataset_dir import PARTS
from dataset_builders.errors import DataError
from dataset_builders.files import atomic_path, content_hash, write_text
from dataset_builders.processes import map_in_processes
from dataset_builders.task_card import TaskCard

__all__ = ["COPIES", "Copy", "Job", "make_copies"]

COPIES = "images/augmented"
_LONGEST_NAME = 255  # bytes that common file systems take
_LARGE_BUFFER = 24 << 20  # bytes; the most that moves glibc's threshold is 32 MiB
CHUNK = 16  # photos a unit of work and of resume


@dataclass(frozen=True, slots=True)
class Copy:
    """An augmented copy on disk.

    Attributes:
        sample_id: ``<parent>~<number>``.
        image: Path relative to the data set directory.
        sha256: Of the file.
        bytes: Size of the file.
        width: In pixels.
        height: In pixels.
        transform: JSON text of what was applied.
    """

    sample_id: str
    image: str
    sha256: str
    bytes: int
    width: int
    height: int
    transform: str


@dataclass(frozen=True, slots=True)
class Job:
    """The copies of one photo.

    Attributes:
        sample_id: Of the photo.
        label: Label id of the photo.
        image: Path of the photo relative to the data set directory.
        copies: How many are wanted.
    """

    sample_id: str
    label: str
    image: str
    copies: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    number: int
    jobs: tuple[Job, ...]
    dataset_dir: Path
    config: AugmentConfig
    card: TaskCard
    key: str  # tells policies and cards apart


def make_copies(jobs: Sequence[Job], dataset_dir: Path, config: AugmentConfig, card: TaskCard) -> Iterator[Copy]:
    """Make all copies; what a killed run of the same inputs has finished is not made again.

    A copy's randomness is seeded by (seed, sample id of the copy) alone, so that neither the number of processes nor
    the other photos change it.

    Args:
        jobs: One a photo.
        dataset_dir: Holds the photos, and receives the copies below ``COPIES`` and the parts below ``PARTS``.
        config: The policy; ``compose_for_label`` has accepted it.
        card: The task card.

    Returns:
        The copies in the order of the jobs.

    Raises:
        DataError: A photo is not readable, or a process died.
    """
    key = content_hash([config.content(), card.model_dump(mode="json")])
    chunks = (
        _Chunk(number, tuple(jobs[start : start + CHUNK]), dataset_dir, config, card, key)
        for number, start in enumerate(range(0, len(jobs), CHUNK))
    )
    workers = min(config.workers, -(-len(jobs) // CHUNK) or 1)
    remedy = "lower `workers` in the policy and run the command again, which goes on where it stopped"
    for copies in map_in_processes(_make_chunk, chunks, workers=workers, chunk=1, remedy=remedy):
        yield from copies


def _make_chunk(chunk: _Chunk) -> list[Copy]:
    part = chunk.dataset_dir / PARTS / f"{chunk.number:06d}.jsonl"
    if part.is_file():
        # Not splitlines(): it also breaks at characters that may stand in a name, such as U+2028.
        return [Copy(**json.loads(line)) for line in part.read_text(encoding="utf-8").split("\n") if line]
    copies = [copy for job in chunk.jobs for copy in _copies_of(job, chunk)]
    write_text(part, "".join(json.dumps(asdict(copy), ensure_ascii=False) + "\n" for copy in copies))
    return copies


def _copies_of(job: Job, chunk: _Chunk) -> Iterator[Copy]:
    import cv2

    from dataset_builders.augment.compose import applied_transforms

    cv2.setNumThreads(1)  # the processes share the cores already; and threads could change sums
    rgb_HWC = _read_rgb(chunk.dataset_dir / job.image)
    compose = _compose(chunk, job.label)
    for number in range(1, job.copies + 1):
        sample_id = f"{job.sample_id}~{number:03d}"
        # Not set_random_seed: that gives every transform the same numbers, so that all of them are applied or none.
        compose.set_random_state(*_generators(chunk.config.seed, sample_id))
        result = compose(image=rgb_HWC)
        encoded = cv2.imencode(
            ".jpg", result["image"][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, chunk.config.jpeg_quality]
        )[1].tobytes()
        image = _copy_name(job.image, number)
        with atomic_path(chunk.dataset_dir / image) as temporary:
            temporary.write_bytes(encoded)
        height, width = result["image"].shape[:2]
        yield Copy(
            sample_id=sample_id,
            image=image,
            sha256=hashlib.sha256(encoded).hexdigest(),
            bytes=len(encoded),
            width=width,
            height=height,
            transform=applied_transforms(result["applied_transforms"]),
        )


def _read_rgb(path: Path) -> Any:
    import cv2

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; build the data set again") from error
    bgr_HWC = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    if bgr_HWC is None:
        raise DataError(f"{path}: not a photo that OpenCV reads; build the data set again")
    return np.ascontiguousarray(bgr_HWC[..., ::-1])


@cache
def _composes() -> dict[tuple[str, str], Any]:
    # glibc gives large buffers back to the system after every use, until one larger than they was freed; a photo's
    # transforms take and free dozens, and each costs page faults.
    np.empty(_LARGE_BUFFER, np.uint8)
    return {}


def _compose(chunk: _Chunk, label_id: str) -> Any:
    """Building a pipeline takes longer than applying it, so a process keeps one a label."""
    from dataset_builders.augment.compose import compose_for_label

    composes, key = _composes(), (chunk.key, label_id)
    if key not in composes:
        composes[key] = compose_for_label(chunk.config, chunk.card, label_id)
    return composes[key]


def _generators(seed: int, sample_id: str) -> tuple[np.random.Generator, random.Random]:
    digest = hashlib.sha256(f"{seed} {sample_id}".encode()).digest()
    return np.random.default_rng(list(digest)), random.Random(digest)


def _copy_name(image: str, number: int) -> str:
    """``images/train/a/b.jpg`` becomes ``images/augmented/train/a/b.jpg~001.jpg``; the suffix keeps b.png apart.

    A name that has no room for the suffix gives way to its hash.
    """
    folder, _, name = image.split("/", 1)[1].rpartition("/")
    suffix = f"~{number:03d}.jpg"
    if len(raw := os.fsencode(name)) + len(suffix) > _LONGEST_NAME:
        name = hashlib.sha256(raw).hexdigest()
    return "/".join(part for part in (COPIES, folder, name + suffix) if part)
