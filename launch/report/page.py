"""Renders the report: templates beside this file, English and Chinese in one page, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.pipeline.console import format_seconds
from launch.report.charts import linear_axis, loss_axis, polyline

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from launch.report.report import Report

__all__ = ["bilingual", "render_page", "template_environment"]

TEMPLATES = Path(__file__).parent / "templates"


def render_page(report: Report) -> str:
    """Render the page as HTML.

    Every text of the data, of file names and of errors is escaped. Should one slip through all the same, the page's
    content security policy still lets no script run but the page's own, and nothing be loaded.
    """
    from markupsafe import Markup

    environment = template_environment(TEMPLATES)
    script = Markup(environment.get_template("script.js.jinja").render())  # the page's own, with nothing filled in
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("page.html.jinja").render(
        report=report,
        card=report.files.card,
        fusion=report.fusion,
        data=report.data,
        provenance=report.provenance,
        script=script,
        script_digest=f"sha256-{digest}",
    )


def template_environment(templates: Path) -> Environment:
    """Templates of a directory: everything is escaped; filters show numbers and names, ``t`` both languages."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,.0f}",
        "factor": _factor,
        "fixed": _fixed,
        "percent": _percent,
        "signed": lambda value, digits=3: f"{value:+.{digits}f}".replace("-", "−"),
        "duration": format_seconds,
        "breakable": _breakable,
    }
    environment.globals |= {
        "t": bilingual,
        "linear_axis": linear_axis,
        "loss_axis": loss_axis,
        "polyline": polyline,
        "extent": _extent,
        "zip": zip,
    }
    return environment


def bilingual(english: str, chinese: str, **values: Any) -> Markup:
    """Both languages, of which the page shows one. ``{name}`` is replaced by a value, which is escaped."""
    from markupsafe import Markup, escape

    both = (escape(text).format(**values) for text in (english, chinese))
    return Markup('<span class="en" lang="en">{}</span><span class="zh" lang="zh-CN">{}</span>').format(*both)


def _fixed(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _factor(value: float) -> str:
    """A coefficient, 0 to infinity: three figures or so."""
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}\u00a0%"


def _breakable(name: str) -> Markup:
    """A file's name that may be broken after a slash, an underscore or a hyphen."""
    from markupsafe import Markup, escape

    text = str(escape(name))
    for sign in "/_-":
        text = text.replace(sign, f"{sign}<wbr>")
    return Markup(text)


def _extent(scores: dict[str, Any], names: Sequence[str]) -> tuple[float, float]:
    """Least and greatest end of the score intervals of some systems."""
    ends = [end for name in names for end in scores["systems"][name]["score_interval"]]
    return min(ends), max(ends)
