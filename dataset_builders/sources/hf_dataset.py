"""Hugging Face data sets on disk: made by ``save_to_disk``, Parquet files, or an image folder. Never the network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dataset_builders.build_config import HfDatasetSource
from dataset_builders.errors import DataError
from dataset_builders.files import atomic_path, write_text
from dataset_builders.sources.entries import RawRow
from dataset_builders.sources.image_folder import is_dropping

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

__all__ = ["read_hf_dataset"]

_OWNER = ".riskfuse-photos"  # says whose photos a directory holds
_SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk writes
_NO_SPLIT = "all"  # what a data set that was saved without splits is called in messages
_DOCUMENTS = frozenset({".csv", ".json", ".jsonl", ".md", ".txt", ".yaml", ".parquet", "license"})  # beside photos
_SUFFIXES = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"))


def read_hf_dataset(source: HfDatasetSource) -> list[RawRow]:
    """Read the rows of one split and write their photos to ``source.images``, byte for byte as they are stored.

    Photos are named by their row: ``000017.jpg`` is row 17, counted from 0. A file that is there already with the same
    bytes is left alone. A row without a photo names a file that does not exist, so that the build quarantines it.

    Raises:
        DataError: The directory is no data set, ``datasets`` would leave files of it out, it has no such split or
            column, or ``source.images`` holds something else.
    """
    if not source.path.is_dir():
        raise DataError(f"{source.path}: no such directory (source {source.name!r})")
    with tempfile.TemporaryDirectory(prefix="riskfuse-") as cache:
        split, dataset = _choose_split(source, _load(source.path, cache))
        _own(source, split)
        return list(_rows(source, split, dataset))


def _load(path: Path, cache: str) -> dict[str, Dataset]:
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        if any((path / name).is_file() for name in _SAVED):
            loaded = datasets.load_from_disk(str(path))
        else:
            # Naming the format keeps `datasets` from following what a README in the directory names, such as URLs.
            parquet = any(file.name != "metadata.parquet" for file in path.rglob("*.parquet"))
            builder = datasets.load_dataset_builder(
                "parquet" if parquet else "imagefolder", data_dir=str(path.resolve()), cache_dir=cache
            )
            _check_whole(path, builder)
            builder.download_and_prepare()
            loaded = builder.as_dataset()
    except DataError:
        raise
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"{path}: `datasets` cannot read it: {error}; expected a directory made by save_to_disk, Parquet files, or "
            "an image folder"
        ) from error
    return {_NO_SPLIT: loaded} if isinstance(loaded, datasets.Dataset) else dict(loaded)


def _check_whole(path: Path, builder: DatasetBuilder) -> None:
    """Refuse what would be left out in silence: ``datasets`` chooses files by words in their names, and by suffix.

    Raises:
        DataError: Names the files.
    """
    root = path.resolve()
    read = {Path(file) for files in builder.config.data_files.values() for file in files}
    if photos := getattr(builder, "EXTENSIONS", None):
        read = {file for file in read if file.suffix.lower() in photos}
        files = [file for file in root.rglob("*") if (file.suffix or file.name).lower() not in _DOCUMENTS]
    else:
        files = list(root.rglob("*.parquet"))
    # A link to a directory is not followed, so it stands for the files behind it.
    below = {file: file.relative_to(root) for file in files if file.is_symlink() or not file.is_dir()}
    left_out = sorted(
        name.as_posix()
        for file, name in below.items()
        if file not in read and not any(is_dropping(Path(part)) for part in name.parts)
    )
    if left_out:
        raise DataError(
            f"{path}: `datasets` would leave out {len(left_out)} of its files: {', '.join(left_out[:5])}"
            f"{', …' if len(left_out) > 5 else ''}. Where some names hold a split's word, such as train or test, those "
            f"alone are read: put everything below {path / 'train'} (or test, validation). Convert photos of other "
            "formats to JPEG, unpack archives, copy what is behind links, and take away the rest"
        )


def _choose_split(source: HfDatasetSource, splits: dict[str, Dataset]) -> tuple[str, Dataset]:
    names = ", ".join(splits)
    if source.split is None and len(splits) > 1:
        raise DataError(f"{source.path}: has the splits {names}; choose one with `split:` (source {source.name!r})")
    split = source.split or next(iter(splits))
    if split not in splits:
        remedy = "leave `split:` out" if _NO_SPLIT in splits else f"it has {names}"
        raise DataError(f"{source.path}: no split {split!r}; {remedy} (source {source.name!r})")
    dataset = splits[split]
    wanted = [name for name in (source.columns.image, source.columns.label) if name]
    missing = [name for name in wanted if name not in dataset.column_names]
    if missing:
        raise DataError(
            f"{source.path}: split {split!r} has no column {', '.join(missing)}; it has "
            f"{', '.join(dataset.column_names)}: set `columns: {{image: …, label: …}}` (label: null when unlabelled)"
        )
    return split, dataset.select_columns(wanted)


def _own(source: HfDatasetSource, split: str) -> None:
    """Make ``source.images`` ours, or refuse when it holds other things."""
    note = source.images / _OWNER
    content = f"Photos of {source.path.as_posix()}, split {split}; written by `riskfuse build`.\n"
    if note.is_file():
        if note.read_text(encoding="utf-8") != content:
            raise DataError(
                f"{source.images}: holds the photos of another data set or split (see {note}); "
                f"choose another `images`, or delete the directory (source {source.name!r})"
            )
        return
    if source.images.exists() and (not source.images.is_dir() or any(source.images.iterdir())):
        raise DataError(
            f"{source.images}: is no empty directory; photos of {source.path} are written there, so choose a new one "
            f"(source {source.name!r})"
        )
    write_text(note, content)


def _rows(source: HfDatasetSource, split: str, dataset: Dataset) -> Iterator[RawRow]:
    import datasets

    image, label = source.columns.image, source.columns.label
    if isinstance(dataset.features[image], datasets.Image):
        dataset = dataset.cast_column(image, datasets.Image(decode=False))  # encoded bytes, not pixels
    feature = dataset.features[label] if label else None
    names = feature.names if isinstance(feature, datasets.ClassLabel) else None
    for index, row in enumerate(dataset):
        where = f"{source.path}, split {split}, row {index}"
        name = _write_photo(source, row[image], index, where)
        yield RawRow(name=name, label=_label(row[label], names) if label else None, where=where)


def _label(value: Any, names: list[str] | None) -> str | None:
    if names is not None and isinstance(value, int):
        return names[value] if value >= 0 else None  # -1 is the convention for "not labelled"
    return None if value is None else str(value).strip() or None


def _write_photo(source: HfDatasetSource, value: Any, index: int, where: str) -> str:
    """Write one photo; returns its file name."""
    raw, path = _stored(value, source, where)
    suffix = next((suffix for start, suffix in _SUFFIXES if raw.startswith(start)), PurePosixPath(path).suffix)
    name = f"{index:06d}{suffix or '.bin'}"
    file = source.images / name
    if not raw:
        file.unlink(missing_ok=True)
    elif not (file.is_file() and file.stat().st_size == len(raw) and file.read_bytes() == raw):
        with atomic_path(file) as temporary:
            temporary.write_bytes(raw)
    return name


def _stored(value: Any, source: HfDatasetSource, where: str) -> tuple[bytes, str]:
    """Encoded bytes and path of a photo; no bytes when the row has none or its file is missing."""
    if value is None:
        return b"", ""
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, dict) or not value.keys() & {"bytes", "path"}:
        raise DataError(
            f"{where}: column {source.columns.image!r} holds {type(value).__name__}; expected a photo, its bytes or "
            "its path: set `columns: {image: …}`"
        )
    path = value.get("path") or ""
    if value.get("bytes"):
        return value["bytes"], path
    if "::" in path or "://" in path:
        raise DataError(f"{where}: the photo {path} is in an archive or on the network; unpack or download it first")
    file = source.path / path
    return (file.read_bytes() if path and file.is_file() else b""), path
