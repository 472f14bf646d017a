"""A directory of photos: one sub-directory a class, or flat and unlabelled."""

from __future__ import annotations

from pathlib import Path

from dataset_builders.build_config import ImageFolderSource
from dataset_builders.errors import DataError
from dataset_builders.sources.entries import RawRow

__all__ = ["is_dropping", "read_image_folder"]

# What desktops leave behind is no data. Any other file that is no photo becomes a quarantine row.
_DROPPINGS = frozenset({"thumbs.db", "desktop.ini"})


def read_image_folder(source: ImageFolderSource) -> list[RawRow]:
    """Read the photos of a directory, sorted by path.

    Raises:
        DataError: There is no such directory, or photos lie beside class directories.
    """
    root = source.path
    if not root.is_dir():
        raise DataError(f"{root}: no such directory (source {source.name!r})")
    children = sorted(path for path in root.iterdir() if not is_dropping(path))
    classes = [path for path in children if path.is_dir()]
    files = [path for path in children if not path.is_dir()]
    if classes and files:
        raise DataError(
            f"{root}: holds both class directories ({classes[0].name}, …) and files ({files[0].name}, …); "
            f"move the files into their class, or out of {root}"
        )
    if files:
        return [RawRow(name=path.name, label=None, where=str(path)) for path in files]
    return [
        RawRow(name=path.relative_to(root).as_posix(), label=directory.name, where=str(path))
        for directory in classes
        for path in sorted(directory.rglob("*"))
        if not path.is_dir() and not any(is_dropping(part) for part in _below(path, root))
    ]


def _below(path: Path, root: Path) -> list[Path]:
    return [Path(part) for part in path.relative_to(root).parts]


def is_dropping(path: Path) -> bool:
    """True for what desktops leave behind, and everything else that is hidden."""
    return path.name.startswith(".") or path.name.lower() in _DROPPINGS
