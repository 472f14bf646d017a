"""Writes what a DroneVehicle data set holds beside its photos: conversations, label lists, tables."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builders.drone_vehicle.config import DroneVehicleConfig
from dataset_builders.drone_vehicle.counts import VEHICLES, render_counts
from dataset_builders.drone_vehicle.pair import MODALITIES
from dataset_builders.drone_vehicle.rows import Sample
from dataset_builders.drone_vehicle.tree import SPLITS
from dataset_builders.drone_vehicle.vehicles import DROP_REASONS
from dataset_builders.files import atomic_path, write_json, write_text
from dataset_builders.ingest import IMAGES
from dataset_builders.manifest import MANIFEST_NAME, write_manifest
from dataset_builders.sharegpt import DATASET_INFO, conversation, register_datasets
from dataset_builders.task_card import TaskCard

__all__ = ["PAIRS_NAME", "write_dataset"]

PAIRS_NAME = "pairs.parquet"

_PAIRS_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("infrared_image", pa.string(), nullable=False),
        pa.field("infrared_sha256", pa.string(), nullable=False),
        *(pa.field(name.replace(" ", "_"), pa.int32(), nullable=False) for name in VEHICLES),
        pa.field("passenger_car_units", pa.float64(), nullable=False),
        pa.field("clipped", pa.int32(), nullable=False),
        *(pa.field(f"dropped_{reason}", pa.int32(), nullable=False) for reason in DROP_REASONS),
    ]
)


def write_dataset(config: DroneVehicleConfig, card: TaskCard, samples: Sequence[Sample]) -> list[str]:
    """Write every file but the photos and the marker; returns their names."""
    usable = {split: [s for s in samples if s.row.usable and s.row.split == split] for split in SPLITS}
    density, counts = card.prompt(card.stages[0]), config.counts_prompt
    registered, names = {}, []
    for split, members in usable.items():
        grades = [
            conversation(density, _images(s), card.answer_for(card.stages[0], s.row.label or "").text) for s in members
        ]
        totals = [conversation(counts, _images(s), render_counts(s.result.counts)) for s in members]
        for stem, examples in ((split, grades), (f"counts_{split}", totals)):
            write_json(config.out / f"{stem}.json", examples)
            names.append(f"{stem}.json")
            if examples:
                registered[f"{card.task}_{stem}"] = f"{stem}.json"
        names += [_write_label_list(config, card, modality, split, members) for modality in MODALITIES]
    register_datasets(config.out, registered)
    write_manifest(config.out, [sample.row for sample in samples])
    _write_pairs(config, samples)
    return [*names, DATASET_INFO, MANIFEST_NAME, PAIRS_NAME]


def _images(sample: Sample) -> list[str]:
    return [sample.result.images[modality] for modality in MODALITIES]


def _write_label_list(
    config: DroneVehicleConfig, card: TaskCard, modality: str, split: str, members: Sequence[Sample]
) -> str:
    """A label list for ``riskfuse build``; its names are relative to ``images/<modality>``."""
    name = f"density_{modality}_{split}.tsv"
    prefix = f"{IMAGES}/{modality}/"
    lines = [f"{s.result.images[modality].removeprefix(prefix)}\t{card.text_of(s.row.label or '')}\n" for s in members]
    write_text(config.out / name, "".join(lines))
    return name


def _write_pairs(config: DroneVehicleConfig, samples: Sequence[Sample]) -> None:
    rows = [
        {
            "sample_id": sample.row.sample_id,
            "infrared_image": sample.result.images.get("infrared", "") if sample.row.usable else "",
            "infrared_sha256": sample.infrared_sha256,
            **{name.replace(" ", "_"): sample.result.counts[name] for name in VEHICLES},
            "passenger_car_units": config.density.units(sample.result.counts),
            "clipped": sample.result.clipped,
            **{f"dropped_{reason}": sample.result.dropped[reason] for reason in DROP_REASONS},
        }
        for sample in samples
    ]
    with atomic_path(config.out / PAIRS_NAME) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=_PAIRS_SCHEMA), temporary, compression="zstd")
