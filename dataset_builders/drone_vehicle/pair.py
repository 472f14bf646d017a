"""One pair: reads its annotation and photos, counts vehicles, writes both frames; or says why it cannot be used."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dataset_builders.drone_vehicle.annotation import Annotation, parse_annotation
from dataset_builders.drone_vehicle.config import DroneVehicleConfig
from dataset_builders.drone_vehicle.frame import Frame, read_frame
from dataset_builders.drone_vehicle.tree import Pair
from dataset_builders.drone_vehicle.vehicles import PlacedVehicles, merge_vehicles, place_vehicles
from dataset_builders.errors import PhotoError
from dataset_builders.files import atomic_path, link_or_copy
from dataset_builders.ingest import IMAGES

__all__ = ["MODALITIES", "PairJob", "PairResult", "process_pair", "read_annotations"]

Annotations = dict[str, Annotation]  # by modality: rgb, infrared
MODALITIES = ("rgb", "infrared")
# Noisy photos hardly shrink at higher levels: 6 takes 3.5 times as long as 2 and saves a tenth.
_PNG_LEVEL = 2


@dataclass(frozen=True, slots=True)
class PairJob:
    """What a worker gets.

    Attributes:
        pair: The files.
        annotations: By modality, those that ``truth`` asks for.
        reason: Why the annotations cannot be used; empty when they can.
        dataset_dir: Where frames are written.
        jpeg_quality: See ``DroneVehicleConfig``.
    """

    pair: Pair
    annotations: Annotations
    reason: str
    dataset_dir: Path
    jpeg_quality: int | None


@dataclass(frozen=True, slots=True)
class PairResult:
    """What became of a pair.

    Attributes:
        images: By modality: path relative to the data set directory; empty when the pair is not usable.
        size: Width and height of the photos' files; zeros when unknown.
        counts: Vehicles in the frame by class.
        dropped: Objects that are no vehicles of the frame, by reason.
        clipped: Vehicles that lie partly outside of the frame.
        respelled: Mended names.
        reason: Why the pair is not usable; empty when it is.
    """

    images: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    clipped: int = 0
    respelled: Counter[str] = field(default_factory=Counter)
    reason: str = ""


def read_annotations(pair: Pair, config: DroneVehicleConfig) -> tuple[Annotations, str]:
    """The annotations that ``truth`` asks for, and why they cannot be used; the reason is empty when they can."""
    annotations: Annotations = {}
    reasons = []
    for modality in config.truth_modalities:
        path = pair.infrared_xml if modality == "infrared" else pair.rgb_xml
        if path is None:
            reasons.append(f"missing: no {modality} annotation")
            continue
        try:
            annotations[modality] = parse_annotation(path.read_bytes())
        except PhotoError as error:
            reasons.append(f"{path.parent.name}/{path.name}: {error}")
        except OSError as error:
            reasons.append(f"{path.parent.name}/{path.name}: unreadable: {error.strerror}")
    return annotations, "; ".join(reasons)


def process_pair(job: PairJob) -> PairResult:
    """Read a pair and write its two frames; the same files give the same result in any process."""
    files = {"rgb": job.pair.rgb, "infrared": job.pair.infrared}
    reasons = [job.reason] if job.reason else []
    frames: dict[str, Frame] = {}
    for modality, path in files.items():
        if path is None:
            reasons.append(f"missing: no {modality} photo")
            continue
        try:
            frames[modality] = read_frame(path.read_bytes())
        except PhotoError as error:
            reasons.append(f"{path.parent.name}/{path.name}: {error}")
        except OSError as error:
            reasons.append(f"{path.parent.name}/{path.name}: unreadable: {error.strerror}")
    sizes = {frame.size for frame in frames.values()}
    if len(sizes) > 1:
        texts = (f"{modality} {frame.size[0]} x {frame.size[1]}" for modality, frame in frames.items())
        reasons.append(f"sizes differ: {', '.join(texts)}")
    size = frames["rgb"].size if "rgb" in frames else (0, 0)
    placed: dict[str, PlacedVehicles] = {}
    if not reasons:
        for modality, annotation in job.annotations.items():
            try:
                placed[modality] = place_vehicles(annotation, size)
            except PhotoError as error:
                reasons.append(f"{modality} annotation: {error}")
    return PairResult(size=size, reason="; ".join(reasons)) if reasons else _result(job, frames, placed)


def _result(job: PairJob, frames: dict[str, Frame], placed: dict[str, PlacedVehicles]) -> PairResult:
    leading, *others = placed.values()
    vehicles = leading.vehicles
    for other in others:
        vehicles = merge_vehicles(vehicles, other.vehicles)
    return PairResult(
        images={modality: _store(job, modality, frame) for modality, frame in frames.items()},
        size=frames["rgb"].size,
        counts=Counter(vehicle.name for vehicle in vehicles),
        dropped=sum((each.dropped for each in placed.values()), Counter()),
        clipped=sum(each.clipped for each in placed.values()),
        respelled=sum((each.respelled for each in placed.values()), Counter()),
    )


def _store(job: PairJob, modality: str, frame: Frame) -> str:
    """Write a frame below ``images/<modality>/<split>/``; a file that is the frame already is linked or copied."""
    source = job.pair.rgb if modality == "rgb" else job.pair.infrared
    stem = f"{IMAGES}/{modality}/{job.pair.sample_id}"
    if frame.plain and source is not None:
        image = f"{stem}{source.suffix.lower()}"
        with atomic_path(job.dataset_dir / image) as temporary:
            link_or_copy(source, temporary)
        return image
    image = f"{stem}.png" if job.jpeg_quality is None else f"{stem}.jpg"
    with atomic_path(job.dataset_dir / image) as temporary:
        temporary.write_bytes(_encode(frame, job.jpeg_quality))
    return image


def _encode(frame: Frame, jpeg_quality: int | None) -> bytes:
    buffer = io.BytesIO()
    if jpeg_quality is None:
        frame.image.save(buffer, format="PNG", compress_level=_PNG_LEVEL)
    else:
        frame.image.save(buffer, format="JPEG", quality=jpeg_quality)
    return buffer.getvalue()
