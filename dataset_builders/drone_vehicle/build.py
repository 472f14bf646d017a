"""The order of a DroneVehicle build: list, parse, check names, crop and count, grade, emit, audit; the marker last."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from dataset_builders.audit import audit_dataset
from dataset_builders.build import BuildResult
from dataset_builders.dataset_dir import MARKER, clear_dataset_dir, is_complete, photo_sizes, read_marker
from dataset_builders.drone_vehicle.annotation import vehicle_of
from dataset_builders.drone_vehicle.config import DroneVehicleConfig
from dataset_builders.drone_vehicle.counts import VEHICLES
from dataset_builders.drone_vehicle.emit import write_dataset
from dataset_builders.drone_vehicle.pair import PairJob, process_pair, read_annotations
from dataset_builders.drone_vehicle.rows import assemble_samples, count_objects
from dataset_builders.drone_vehicle.tree import Pair, Tree, read_tree
from dataset_builders.errors import DataError
from dataset_builders.files import content_hash, file_sha256, write_json
from dataset_builders.findings import Findings
from dataset_builders.processes import map_in_processes
from dataset_builders.progress import track
from dataset_builders.summary import summarize
from dataset_builders.task_card import TaskCard

__all__ = ["build_drone_vehicle"]

# Part of the fingerprint: raise it when the same inputs give other files.
_VERSION = 1
_LIBRARIES = ("pillow", "pyarrow")  # their versions decide bytes
_CHUNK = 8  # pairs that a worker fetches at once


def build_drone_vehicle(config: DroneVehicleConfig, card: TaskCard) -> BuildResult:
    """Build a data set directory from a tree, or do nothing when it is there for the same inputs and config.

    Raises:
        DataError: The tree is laid out in another way, objects have unknown names, nothing is usable, a class is
            missing in train or val, or ``out`` is somebody else's directory.
    """
    tree = read_tree(config.tree, config.truth_modalities)
    jobs = _parse(config, tree)
    hashes = _hash_files(tree.pairs, config.workers)
    fingerprint = _fingerprint(config, card, tree.pairs, hashes)
    if is_complete(config.out, fingerprint):
        return BuildResult(read_marker(config.out), fresh=False)
    clear_dataset_dir(config.out)
    results = map_in_processes(
        process_pair, jobs, workers=config.workers, chunk=_CHUNK, remedy="lower `workers` and build again"
    )
    results = track(results, total=len(jobs), title="pairs")
    samples = assemble_samples(config, tree.pairs, list(results), hashes)
    for sample in samples:
        if not sample.row.usable:  # a leak: read and written before it was known
            for image in sample.result.images.values():
                (config.out / image).unlink()
    files = write_dataset(config, card, samples)
    rows = [sample.row for sample in samples]
    audit_dataset(config.out, rows, card)
    marker = {
        "fingerprint": fingerprint,
        "task": card.task,
        "labels": list(card.label_ids),
        "config": config.content(),
        **summarize(rows, card),
        **count_objects(samples),
        "strays": tree.strays,
        "photos": photo_sizes(config.out),
        "files": {name: file_sha256(config.out / name) for name in files},
    }
    write_json(config.out / MARKER, marker)
    return BuildResult(marker, fresh=True)


def _parse(config: DroneVehicleConfig, tree: Tree) -> list[PairJob]:
    """Read all annotations before any photo, so that an unknown name is found at once and not after hours."""
    findings = Findings()
    jobs = []
    for pair in tree.pairs:
        annotations, reason = read_annotations(pair, config)
        for modality, annotation in annotations.items():
            path = pair.infrared_xml if modality == "infrared" else pair.rgb_xml
            for thing in annotation.objects:
                if vehicle_of(thing.name) is None:
                    findings.add(f"{path}: object {thing.number}: unknown name {thing.name!r}")
        jobs.append(PairJob(pair, annotations, reason, config.out, config.jpeg_quality))
    findings.raise_if_any(
        DataError, f"{config.tree}: objects with unknown names; correct them to {', '.join(VEHICLES)}, or to * to drop"
    )
    return jobs


def _hash_files(pairs: Sequence[Pair], workers: int) -> list[dict[str, str]]:
    """SHA-256 of each pair's files by part; empty for one that is missing or cannot be read."""

    def digest(path: Path | None) -> str:
        try:
            return file_sha256(path) if path else ""
        except OSError:  # becomes a quarantined row with the reason
            return ""

    def hash_pair(pair: Pair) -> dict[str, str]:
        parts = ("rgb", "infrared", "rgb_xml", "infrared_xml")
        return {part: digest(getattr(pair, part)) for part in parts}

    with ThreadPoolExecutor(workers) as pool:  # hashing releases the interpreter's lock
        return list(pool.map(hash_pair, pairs))


def _fingerprint(
    config: DroneVehicleConfig, card: TaskCard, pairs: Sequence[Pair], hashes: Sequence[dict[str, str]]
) -> str:
    return content_hash(
        {
            "version": _VERSION,
            "libraries": {name: version(name) for name in _LIBRARIES},
            "config": config.content(),
            "card": card.model_dump(mode="json"),
            "pairs": [[pair.sample_id, sha256s] for pair, sha256s in zip(pairs, hashes, strict=True)],
        }
    )
