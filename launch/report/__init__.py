"""The report of a run: one HTML page that needs no other file and no network."""

from launch.report.report import REPORT_NAME, write_report

__all__ = ["REPORT_NAME", "write_report"]
