"""Takes the photos of all entries into ``images/``: verified, upright, RGB, with size and hashes, in parallel."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dataset_builders.errors import PhotoError
from dataset_builders.files import atomic_path, link_or_copy
from dataset_builders.near_duplicates import perceptual_hash
from dataset_builders.photo import DecodedPhoto, decode_photo, encode_png
from dataset_builders.processes import map_in_processes
from dataset_builders.progress import track
from dataset_builders.sources.entries import Entry

__all__ = ["IMAGES", "IngestedPhoto", "ingest_photos"]

IMAGES = "images"
_CHUNK = 16  # photos that a worker fetches at once


@dataclass(frozen=True, slots=True)
class IngestedPhoto:
    """What is known about an entry's photo.

    Attributes:
        image: Path relative to the data set directory; empty when the photo is not usable.
        sha256: Of the source file's bytes; empty when it cannot be read.
        size_bytes: Size of the source file; 0 when it cannot be read.
        width: In pixels, upright; 0 when unknown.
        height: In pixels, upright; 0 when unknown.
        perceptual_hash: ``hash_size²`` bits; empty when the photo is not usable or none was asked for.
        reason: Why the photo is not usable; empty when it is.
    """

    image: str = ""
    sha256: str = ""
    size_bytes: int = 0
    width: int = 0
    height: int = 0
    perceptual_hash: bytes = b""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    file: Path
    dataset_dir: Path
    plain_image: str
    png_image: str
    max_pixels: int
    hash_size: int | None


def ingest_photos(
    entries: Sequence[Entry], dataset_dir: Path, *, max_pixels: int, hash_size: int | None, workers: int
) -> list[IngestedPhoto]:
    """Verify every entry's photo and put it below ``dataset_dir/images``.

    Args:
        entries: What to take in.
        dataset_dir: The data set directory.
        max_pixels: See ``decode_photo``.
        hash_size: Side of the perceptual hash; None for no hash.
        workers: Number of processes. 1 works in this process. The result is the same for any number.

    Returns:
        One result an entry, in order.

    Raises:
        DataError: A worker process died.
    """
    pngs = _png_names(entries)
    jobs = [
        _Job(
            file=entry.file,
            dataset_dir=dataset_dir,
            plain_image=f"{IMAGES}/{entry.source}/{entry.source_file}",
            png_image=f"{IMAGES}/{entry.source}/{png}",
            max_pixels=max_pixels,
            hash_size=hash_size,
        )
        for entry, png in zip(entries, pngs, strict=True)
    ]
    results = map_in_processes(
        _ingest,
        jobs,
        workers=min(workers, -(-len(jobs) // _CHUNK) or 1),
        chunk=_CHUNK,
        remedy="lower `workers` or `max_pixels` in the build config and build again",
    )
    return list(track(results, total=len(jobs), title="photos"))


def _ingest(job: _Job) -> IngestedPhoto:
    try:
        raw = job.file.read_bytes()
    except FileNotFoundError:
        return IngestedPhoto(reason=f"missing: no file {job.file.name} in {job.file.parent}")
    except OSError as error:
        return IngestedPhoto(reason=f"unreadable: {error.strerror}")
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        photo = decode_photo(raw, max_pixels=job.max_pixels)
    except PhotoError as error:
        return IngestedPhoto(sha256=sha256, size_bytes=len(raw), reason=str(error))
    try:
        image = _store(photo, job)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        reason = "name too long for the data set directory, there perhaps as .png; rename the photo"
        return IngestedPhoto(sha256=sha256, size_bytes=len(raw), reason=reason)
    return IngestedPhoto(
        image=image,
        sha256=sha256,
        size_bytes=len(raw),
        width=photo.image.width,
        height=photo.image.height,
        perceptual_hash=perceptual_hash(photo.image, hash_size=job.hash_size) if job.hash_size else b"",
    )


def _store(photo: DecodedPhoto, job: _Job) -> str:
    image = job.plain_image if photo.plain else job.png_image
    with atomic_path(job.dataset_dir / image) as temporary:
        if not photo.plain:
            temporary.write_bytes(encode_png(photo.image))
        else:
            link_or_copy(job.file, temporary)
    return image


def _png_names(entries: Iterable[Entry]) -> list[str]:
    """A name for every entry's photo in case it must be written anew: free in its source, decided by order alone."""
    entries = list(entries)
    taken = {(entry.source, entry.source_file) for entry in entries}
    names = []
    for entry in entries:
        path = PurePosixPath(entry.source_file)
        name = str(path.with_suffix(".png"))
        number = 0
        while name != entry.source_file and (entry.source, name) in taken:
            name = f"{path}.{number}.png" if number else f"{path}.png"
            number += 1
        taken.add((entry.source, name))
        names.append(name)
    return names
