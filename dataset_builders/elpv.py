"""The solar-cell example: writes the photos of the package ``elpv-dataset`` as tables that a build config can name.

2,624 electroluminescence photos of solar cells, 300 x 300 grey, cut from 44 modules, graded by experts with a defect
likelihood of 0, 1/3, 2/3 or 1. Licence CC BY-NC-SA 4.0. Source: Buerhop-Lutz et al., "A Benchmark for Visual
Identification of Defective Solar Cells in Electroluminescence Imagery", EU PVSEC 2018, https://doi.org/10.4229/35thEUPVSEC20182018-5CV.3.15.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
import shutil
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dataset_builders.errors import DataError, RiskFuseError
from dataset_builders.files import atomic_path, write_text

__all__ = ["Cell", "main", "package_directory", "read_cells", "split_cells", "write_tables"]

_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Cell:
    """One photo.

    Attributes:
        name: File name, relative to the package's data directory.
        label: Defect likelihood with two decimals; the task card knows it as an alias.
        kind: ``mono`` or ``poly``, the crystal.
    """

    name: str
    label: str
    kind: str


def package_directory() -> Path:
    """The data directory of the installed package.

    Raises:
        DataError: The package is not installed.
    """
    # Looked up, not imported: importing it loads packages that it does not declare.
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        raise DataError("the package elpv-dataset is not installed; run: make env, or: pip install 'riskfuse[elpv]'")
    return Path(next(iter(found.submodule_search_locations))) / "data"


def read_cells(labels: Path) -> list[Cell]:
    """Read ``labels.csv``: name, likelihood and crystal, separated by blanks.

    Raises:
        DataError: A row has not three fields, or its likelihood is no number.
    """
    cells = []
    for number, line in enumerate(labels.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            name, likelihood, kind = line.split()
            cells.append(Cell(name, f"{float(likelihood):.2f}", kind))
        except ValueError:
            raise DataError(f"{labels}:{number}: expected 'name likelihood crystal', got {line!r}") from None
    return cells


def split_cells(cells: list[Cell]) -> tuple[list[Cell], list[Cell]]:
    """Split into training and test cells: of each label and crystal a fifth, chosen by the hash of the name.

    The package does not tell which module a cell comes from, so cells of one module can be on both sides.

    Returns:
        Training cells and test cells, each in the order of ``cells``.
    """
    strata: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        strata[cell.label, cell.kind].append(cell)
    test: set[str] = set()
    for stratum in strata.values():
        shuffled = sorted(stratum, key=lambda cell: hashlib.sha256(cell.name.encode()).hexdigest())
        test.update(cell.name for cell in shuffled[: round(len(stratum) * _TEST_SHARE)])
    return [cell for cell in cells if cell.name not in test], [cell for cell in cells if cell.name in test]


def write_tables(out: Path) -> tuple[int, int]:
    """Copy the photos to ``out/images`` and write ``out/train.csv`` and ``out/test.csv``.

    Returns:
        Number of training and of test photos.

    Raises:
        DataError: The package is missing or damaged.
    """
    data = package_directory()
    cells = read_cells(data / "labels.csv")
    for cell in cells:
        source = data / cell.name
        if not source.is_file():
            raise DataError(f"{source} is missing; install the package elpv-dataset anew")
        target = out / "images" / PurePosixPath(cell.name).name
        if not target.is_file() or target.stat().st_size != source.stat().st_size:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
    train, test = split_cells(cells)
    for name, rows in (("train.csv", train), ("test.csv", test)):
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["name", "label", "crystal"])
        writer.writerows([PurePosixPath(cell.name).name, cell.label, cell.kind] for cell in rows)
        write_text(out / name, table.getvalue())
    return len(train), len(test)


def main(argv: list[str] | None = None) -> int:
    """Run ``python -m dataset_builders.elpv --out DIR``; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Write the solar-cell photos of elpv-dataset as tables for riskfuse build.",
        epilog="example: python -m dataset_builders.elpv --out data/elpv_photos",
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write to")
    args = parser.parse_args(argv)
    try:
        train, test = write_tables(args.out)
    except RiskFuseError as error:
        print(f"elpv: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: {train} training photos, {test} test photos (elpv-dataset, CC BY-NC-SA 4.0)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
