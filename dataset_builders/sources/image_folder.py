"""A directory of photos: one sub-directory a class, or flat and unlabelled."""

from __future__ import annotations

from pathlib import Path

from dataset_builders.build_config import ImageFolderSource
from dataset_builders.errors import DataError
from dataset_builders.findings import Findings
from dataset_builders.sources.entries import RawRow

__all__ = ["is_dropping", "read_image_folder"]

# What desktops leave behind is no data. Any other file that is no photo becomes a quarantine row.
_DROPPINGS = frozenset({"thumbs.db", "desktop.ini"})


def read_image_folder(source: ImageFolderSource) -> list[RawRow]:
    """Read the photos of a directory, sorted by path.

    Raises:
        DataError: There is no such directory, photos lie beside class directories, or a class holds a link to a
            directory.
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
    found = [
        (path, directory.name)
        for directory in classes
        for path in sorted(directory.rglob("*"))
        if not any(is_dropping(part) for part in _below(path, root))
    ]
    findings = Findings()
    for path, _ in found:
        if path.is_symlink() and path.is_dir():  # rglob does not follow it
            findings.add(f"{path} is a link to a directory; put the photos behind it there in its place")
    findings.raise_if_any(DataError, f"{root}: linked photos would be left out of source {source.name!r}")
    return [
        RawRow(name=path.relative_to(root).as_posix(), label=label, where=str(path))
        for path, label in found
        if not path.is_dir()
    ]


def _below(path: Path, root: Path) -> list[Path]:
    return [Path(part) for part in path.relative_to(root).parts]


def is_dropping(path: Path) -> bool:
    """True for what desktops leave behind, and everything else that is hidden."""
    return path.name.startswith(".") or path.name.lower() in _DROPPINGS
