"""What an inspection says: verdicts, findings that a CI job can name, and sections of the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["FINDINGS", "Finding", "Section", "Verdict", "worst"]

# Name -> what is a problem; `--fail-on` takes these names.
FINDINGS = {
    "classes": "a class has no photo in train or val",
    "quarantined": "the build could not use more than 5 % of the photos",
    "duplicates": "more than half of the training photos are near-duplicates of one another",
    "leak": "near-duplicates certainly lie in two splits",
    "contradictions": "near-duplicates certainly have different labels",
    "label_errors": "more than 10 % of the labels look wrong to out-of-fold predictions",
    "shortcut": "size, encoding or camera alone tell a class from the others, or light alone tells it nearly always",
    "shift": "size, encoding or camera alone tell val or test from train",
    "copies": "augmented copies are easily told from originals and some classes hold many more of them",
    "outliers": "a photo is one flat colour",
}


class Verdict(StrEnum):
    """How good a finding is: nothing to do, a person should look, or do not train on this."""

    OK = "ok"
    LOOK = "look"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        name: One of ``FINDINGS``.
        verdict: How good it is.
        meaning: One sentence: what was seen and what that means.
        remedy: One sentence: what to do; empty when nothing is.
    """

    name: str
    verdict: Verdict
    meaning: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the report.

    Attributes:
        key: Identifier in ``report.json``.
        title: For people.
        findings: At least one, or none when the section does not apply.
        facts: Figures and lists as JSON values.
        shown: Sample ids whose thumbnails the page needs.
    """

    key: str
    title: str
    findings: tuple[Finding, ...]
    facts: dict[str, Any]
    shown: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> Verdict:
        """The worst of its findings."""
        return worst(finding.verdict for finding in self.findings)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst verdict; ok when there is none."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.OK)
