"""Gathers what a run left and writes its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataset_builders.files import write_text
from launch.pipeline.plan import REPORT_NAME
from launch.report.curves import StageCurves, read_stage_curves
from launch.report.data_summary import DataSummary, summarize_data
from launch.report.fusion_results import FusionResults, read_fusion_results
from launch.report.photos import read_thumbnails
from launch.report.provenance import Provenance, read_provenance
from launch.report.run_files import RunFiles

__all__ = ["REPORT_NAME", "Report", "write_report"]

PHOTOS = 24  # of each kind that are shown
ROWS = 200  # of what was left out, of each kind


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes:
        files: The run.
        fusion: What fusion left; None while it has not been run.
        curves: Training curves of every stage.
        data: The data set.
        provenance: Times, configuration, versions, fingerprints.
        thumbnails: Sample id -> data URI.
        heat_maps: Sample id -> (stage, data URI).
    """

    files: RunFiles
    fusion: FusionResults | None
    curves: tuple[StageCurves, ...]
    data: DataSummary
    provenance: Provenance
    thumbnails: dict[str, str]
    heat_maps: dict[str, list[tuple[str, str]]]


def write_report(
    files: RunFiles, out: Path, *, photos: int = PHOTOS, rows: int = ROWS, heat_maps: bool = False
) -> Report:
    """Write the report of a run as one HTML file, atomically.

    Args:
        files: The run, see ``find_run``.
        out: File to write.
        photos: At most so many photos of each kind are shown; how many there are is always said.
        rows: At most so many rows of each kind of photo that was left out are listed.
        heat_maps: Load the specialists that have a hazard amplifier, and show where they look in the photos that
            fusion changed.

    Raises:
        DataError: A file of the run is missing, damaged or of another version.
        ConfigError: Heat maps are wanted, but no specialist has an amplifier.
    """
    from launch.report.page import render_page  # jinja2 is needed here alone

    fusion = read_fusion_results(files, photos)
    data = summarize_data(files, rows)
    shown: list[str] = []
    if fusion is not None:
        shown = [card.sample_id for album in fusion.albums for card in album.cards]
        shown += [row.sample_id for row in fusion.review]
    changed = [card.sample_id for album in fusion.changes for card in album.cards] if fusion else []
    maps: dict[str, list[tuple[str, str]]] = {}
    if heat_maps:
        from launch.report.heat_maps import draw_heat_maps

        maps = draw_heat_maps(files, changed)
    report = Report(
        files=files,
        fusion=fusion,
        curves=tuple(read_stage_curves(stage) for stage in files.stages),
        data=data,
        provenance=read_provenance(files, data.fingerprint, fusion.model if fusion else None),
        thumbnails=read_thumbnails(files.dataset, sorted(set(shown))),
        heat_maps=maps,
    )
    write_text(out, render_page(report))
    return report
