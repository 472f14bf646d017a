"""Reads every source of a build config, in order."""

from __future__ import annotations

from collections.abc import Iterable

from dataset_builders.build_config import (
    HfDatasetSource,
    ImageFolderSource,
    LabelListSource,
    LabelStudioSource,
    Source,
)
from dataset_builders.sources.entries import Entry, check_rows
from dataset_builders.sources.hf_dataset import read_hf_dataset
from dataset_builders.sources.image_folder import read_image_folder
from dataset_builders.sources.label_list import read_label_list
from dataset_builders.sources.label_studio import read_label_studio
from dataset_builders.sources.table import read_table
from dataset_builders.task_card import TaskCard

__all__ = ["read_sources"]


def read_sources(sources: Iterable[Source], card: TaskCard) -> list[Entry]:
    """Read and check the rows of all sources.

    Raises:
        DataError: A source is missing, empty or has wrong rows.
    """
    entries: list[Entry] = []
    for source in sources:
        if isinstance(source, LabelListSource):
            rows, images = read_label_list(source), source.images
        elif isinstance(source, ImageFolderSource):
            rows, images = read_image_folder(source), source.path
        elif isinstance(source, HfDatasetSource):
            rows, images = read_hf_dataset(source), source.images
        elif isinstance(source, LabelStudioSource):
            rows, images = read_label_studio(source), source.images
        else:
            rows, images = read_table(source), source.images
        entries += check_rows(rows, source=source.name, role=source.role, path=source.path, images=images, card=card)
    return entries
