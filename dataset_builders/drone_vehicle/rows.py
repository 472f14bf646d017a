"""Results become manifest rows: quarantine, leaks between splits, groups, labels; and their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dataset_builders.drone_vehicle.config import DroneVehicleConfig
from dataset_builders.drone_vehicle.counts import VEHICLES
from dataset_builders.drone_vehicle.frame import FRAME_SIZE
from dataset_builders.drone_vehicle.pair import MODALITIES, PairResult
from dataset_builders.drone_vehicle.tree import SPLITS, Pair
from dataset_builders.drone_vehicle.vehicles import DROP_REASONS
from dataset_builders.errors import DataError
from dataset_builders.manifest import OK, QUARANTINED, ManifestRow
from dataset_builders.near_duplicates import group_photos

__all__ = ["Sample", "assemble_samples", "count_objects"]

_FOLDS = {"train": 1, "val": 0, "test": -1}  # the tree's own splits, in the manifest's terms


@dataclass(frozen=True, slots=True)
class Sample:
    """A pair on its way out.

    Attributes:
        row: Its manifest row; ``image`` is the RGB frame.
        result: What its files hold.
        infrared_sha256: Of the infrared photo's file; empty when there is none.
    """

    row: ManifestRow
    result: PairResult
    infrared_sha256: str


def assemble_samples(
    config: DroneVehicleConfig, pairs: Sequence[Pair], results: Sequence[PairResult], hashes: Sequence[dict[str, str]]
) -> list[Sample]:
    """Decide about every pair.

    Args:
        config: Knows the density rule.
        pairs: Files, N.
        results: What became of them, N.
        hashes: SHA-256 of each pair's files by part, N.

    Returns:
        One sample a pair, in order.

    Raises:
        DataError: No pair is usable, or no training or validation pair has a label of the ladder.
    """
    leaks = _leaks(pairs, results, hashes)
    positions: Counter[str] = Counter()
    samples = []
    for pair, result, sha256s in zip(pairs, results, hashes, strict=True):
        reason = result.reason or leaks.get(pair.sample_id, "")
        row = ManifestRow(
            sample_id=pair.sample_id,
            source=pair.split,
            name=pair.stem,
            position=positions[pair.split],
            split=pair.split,
            label=None if reason else config.density.label(result.counts),
            image="" if reason else result.images["rgb"],
            source_file=pair.rgb.name if pair.rgb else "",
            sha256=sha256s["rgb"],
            bytes=pair.rgb.stat().st_size if pair.rgb else 0,
            width=result.size[0],
            height=result.size[1],
            fold=-1 if reason else _FOLDS[pair.split],
            repeats=int(pair.split == "train" and not reason),
            status=QUARANTINED if reason else OK,
            reason=reason,
        )
        positions[pair.split] += 1
        samples.append(Sample(row, result, sha256s["infrared"]))
    _check_usable(samples)
    _check_classes(samples, config)
    return _group(samples)


def _leaks(pairs: Sequence[Pair], results: Sequence[PairResult], hashes: Sequence[dict[str, str]]) -> dict[str, str]:
    """Reasons of usable pairs that share a photo's bytes with a pair of a later split; test outranks val and train."""
    owners: dict[str, Pair] = {}
    reasons = {}
    members = [member for member in zip(pairs, results, hashes, strict=True) if not member[1].reason]
    for pair, _, sha256s in sorted(members, key=lambda member: -SPLITS.index(member[0].split)):
        for modality in MODALITIES:
            owner = owners.setdefault(sha256s[modality], pair)
            if owner.split != pair.split:
                reasons[pair.sample_id] = f"leak: the same bytes as the {modality} photo of {owner.sample_id}"
    return reasons


def _check_usable(samples: Sequence[Sample]) -> None:
    if not any(sample.row.usable for sample in samples):
        first = samples[0].row
        raise DataError(f"no pair is usable; the first is quarantined because: {first.sample_id}: {first.reason}")


def _check_classes(samples: Sequence[Sample], config: DroneVehicleConfig) -> None:
    units = [config.density.units(sample.result.counts) for sample in samples if sample.row.usable]
    for split in ("train", "val"):
        labels = {sample.row.label for sample in samples if sample.row.usable and sample.row.split == split}
        missing = [label for label in config.density.at_least if label not in labels]
        if missing:
            raise DataError(
                f"no {split} pair has the density label {', '.join(missing)}; the usable pairs hold {min(units):g} to "
                f"{max(units):g} passenger car units: change `density.at_least`"
            )


def _group(samples: Sequence[Sample]) -> list[Sample]:
    """Number the pairs; RGB photos with equal bytes have one number."""
    usable = [index for index, sample in enumerate(samples) if sample.row.usable]
    groups = group_photos([samples[index].row.sha256 for index in usable], None, hamming=0)
    result = list(samples)
    for index, group in zip(usable, groups, strict=True):
        result[index] = replace(result[index], row=replace(result[index].row, group=int(group)))
    return result


def count_objects(samples: Sequence[Sample]) -> dict[str, Any]:
    """What a person should know about the objects of the usable pairs, as JSON values for ``build.json``."""
    usable = [sample for sample in samples if sample.row.usable]
    total: Counter[str] = sum((sample.result.dropped for sample in usable), Counter())
    respelled: Counter[str] = sum((sample.result.respelled for sample in usable), Counter())
    return {
        "vehicles": {
            split: {name: sum(s.result.counts[name] for s in usable if s.row.split == split) for name in VEHICLES}
            for split in SPLITS
        },
        "clipped_vehicles": sum(sample.result.clipped for sample in usable),
        "dropped_objects": {reason: total[reason] for reason in DROP_REASONS},
        "respelled_names": dict(sorted(respelled.items())),
        "photos_without_border": sum(sample.result.size == FRAME_SIZE for sample in usable),
    }
