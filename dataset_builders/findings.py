"""Collects what is wrong, so that one error shows it all instead of one finding a run."""

from __future__ import annotations

from dataset_builders.errors import RiskFuseError

__all__ = ["SHOWN", "Findings"]

SHOWN = 20


class Findings:
    """A list of findings that becomes one error. At most ``SHOWN`` are spelled out, all are counted."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Record a finding: where, what was expected, what was got, and the remedy."""
        self._texts.append(text)

    def raise_if_any(self, error: type[RiskFuseError], headline: str) -> None:
        """Raise ``error`` with all findings when there is one.

        Raises:
            RiskFuseError: Of the type ``error``.
        """
        if not self._texts:
            return
        count = len(self._texts)
        lines = [f"{headline} ({count} finding{'s' if count > 1 else ''}):"]
        lines += [f"  {text}" for text in self._texts[:SHOWN]]
        if count > SHOWN:
            lines.append(f"  … and {count - SHOWN} more")
        raise error("\n".join(lines))
