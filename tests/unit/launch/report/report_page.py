"""A report as a test reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from launch.report import write_report
from launch.report.report import Report
from launch.report.run_files import find_run

__all__ = ["Page", "report_of"]


class Page(HTMLParser):
    """Elements and text of a page, the style and the script left out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.text += data


def report_of(run: Path, out: Path, **options: int) -> tuple[Report, Page]:
    report = write_report(find_run(run), out / "page.html", **options)
    return report, Page((out / "page.html").read_text(encoding="utf-8"))
