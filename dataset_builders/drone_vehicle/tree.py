"""The directory tree of DroneVehicle: which photos and annotations belong together."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from dataset_builders.errors import DataError
from dataset_builders.findings import Findings

__all__ = ["SPLITS", "Pair", "Tree", "read_tree"]

SPLITS = ("train", "val", "test")
# What a pair consists of -> ending of the directory's name after the split.
_PARTS = {"rgb": "img", "infrared": "imgr", "rgb_xml": "label", "infrared_xml": "labelr"}
_PHOTOS = frozenset({".jpg", ".jpeg", ".png"})
_ANNOTATIONS = frozenset({".xml"})
_DROPPINGS = frozenset({"thumbs.db", "desktop.ini"})  # what desktops leave behind is no data


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of one stem; None where there is none.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        stem: Name of the files without suffix.
        rgb: Photo in visible light.
        infrared: Infrared photo.
        rgb_xml: Objects as drawn on the RGB photo.
        infrared_xml: Objects as drawn on the infrared photo.
    """

    split: str
    stem: str
    rgb: Path | None = None
    infrared: Path | None = None
    rgb_xml: Path | None = None
    infrared_xml: Path | None = None

    @property
    def sample_id(self) -> str:
        """``<split>/<stem>``."""
        return f"{self.split}/{self.stem}"


@dataclass(frozen=True, slots=True)
class Tree:
    """What a tree holds.

    Attributes:
        pairs: By split and stem.
        strays: Files that are neither photo nor annotation, relative to the tree.
    """

    pairs: list[Pair]
    strays: list[str]


def read_tree(root: Path, modalities: Collection[str]) -> Tree:
    """List a tree; every stem of any directory becomes a pair, complete or not.

    Args:
        root: Holds the three splits.
        modalities: Whose annotations are wanted, ``rgb`` and ``infrared``; the directories of others are not read.

    Raises:
        DataError: A directory is missing, nothing is in it, or it holds two files of one stem. All findings are in the
            message.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such directory; `tree` must name the directory that holds {', '.join(SPLITS)}")
    findings = Findings()
    pairs: list[Pair] = []
    strays: list[str] = []
    parts = ("rgb", "infrared", *(f"{modality}_xml" for modality in modalities))
    for split in SPLITS:
        files = {part: _files(root, split, part, strays, findings) for part in parts}
        stems = sorted({stem for of_part in files.values() for stem in of_part})
        pairs += [Pair(split, stem, **{part: files[part].get(stem) for part in parts}) for stem in stems]
    findings.raise_if_any(
        DataError,
        f"{root}: not laid out as DroneVehicle, SPLIT/SPLIT{{{'|'.join(_PARTS.values())}}}/NUMBER.jpg or .xml",
    )
    return Tree(pairs, strays)


def _files(root: Path, split: str, part: str, strays: list[str], findings: Findings) -> dict[str, Path]:
    """Files of one directory by stem."""
    directory = root / split / f"{split}{_PARTS[part]}"
    if not directory.is_dir():
        findings.add(f"{directory}: no such directory{_hint(root, directory)}")
        return {}
    suffixes = _ANNOTATIONS if part.endswith("xml") else _PHOTOS
    files: dict[str, Path] = {}
    for path in _listed(directory):
        if path.suffix.lower() not in suffixes or not path.is_file():
            strays.append(path.relative_to(root).as_posix())
        elif path.stem in files:
            findings.add(f"{path}: {files[path.stem].name} has the same stem; keep one of them")
        else:
            files[path.stem] = path
    if not files:
        findings.add(f"{directory}: holds no {'/'.join(sorted(suffixes))}; unpack the data set's archive here")
    return files


def _listed(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if not path.name.startswith(".") and path.name.lower() not in _DROPPINGS:
            yield path


def _hint(root: Path, directory: Path) -> str:
    """Where the directory lies instead, if it is near."""
    near = next((path for path in (root / directory.name, *root.glob(f"*/*/{directory.name}")) if path.is_dir()), None)
    if near:
        return f"; {near} should be moved there, or `tree` should name another directory"
    return "; unpack the data set's archive there"
