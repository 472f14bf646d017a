"""``report.html``: the report as one page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset_builders.inspect.duplicates import SHOWN as SHOWN_PAIRS
from dataset_builders.inspect.finding import Section
from dataset_builders.inspect.label_errors import SHOWN as SHOWN_LABELS

__all__ = ["render_page"]

_TEMPLATE = "page.html.jinja"
_BAR_WIDTH, _BARS_HEIGHT = 5, 26  # of a histogram, pixels


def render_page(report: Mapping[str, Any], sections: Sequence[Section], thumbnails: Mapping[str, str]) -> str:
    """Render the page.

    Args:
        report: Content of ``report.json``.
        sections: The sections in order; their facts are in the report.
        thumbnails: Sample id -> data URI of the photos that are shown.

    Returns:
        HTML. Every text from the data set is escaped.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols"],
    )
    environment.filters["bars"] = _bars
    template = environment.get_template(_TEMPLATE)
    return template.render(
        report=report,
        sections=sections,
        thumbnails=thumbnails,
        shown_pairs=SHOWN_PAIRS,
        shown_labels=SHOWN_LABELS,
        height=_BARS_HEIGHT,
    )


def _bars(histogram: Sequence[int]) -> list[dict[str, float]]:
    """Rectangles of a histogram: x, y, width, height in pixels."""
    highest = max(histogram, default=0)
    return [
        {
            "x": index * _BAR_WIDTH,
            "y": round(_BARS_HEIGHT * (1 - count / highest), 1),
            "width": _BAR_WIDTH - 1,
            "height": round(_BARS_HEIGHT * count / highest, 1),
        }
        for index, count in enumerate(histogram)
        if count
    ]
