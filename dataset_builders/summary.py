"""What a build made, in numbers: for ``build.json`` and for people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from dataset_builders.findings import SHOWN
from dataset_builders.manifest import ManifestRow
from dataset_builders.task_card import TaskCard

__all__ = ["render_summary", "summarize"]

UNLABELLED = "unlabelled"
_LARGE_GROUP = 10  # near-duplicates of one thing are a few; more of them hint at a threshold that is too wide


def summarize(rows: Sequence[ManifestRow], card: TaskCard) -> dict[str, Any]:
    """Counts, groups, contradictions and quarantined rows of a data set, as JSON values.

    Returns:
        ``counts`` (photos per split and class, and rows of ``train.json``), ``groups`` (near-duplicate groups of two
        and more), ``contradictions`` (equal bytes with different labels; both stay in) and ``quarantined``.
    """
    usable = [row for row in rows if row.usable]
    return {
        "counts": _counts(usable, card),
        "groups": _groups(usable),
        "contradictions": _contradictions(usable),
        "quarantined": [{"sample_id": row.sample_id, "reason": row.reason} for row in rows if not row.usable],
    }


def render_summary(marker: dict[str, Any]) -> str:
    """The summary as plain text: a table of counts, then what a person should look at."""
    counts = marker["counts"]
    classes = list(dict.fromkeys(label for per_class in counts.values() for label in per_class))
    cells = [["", *classes, "all"]]
    for name, per_class in counts.items():
        values = [per_class.get(label, 0) for label in classes]
        cells.append([name.replace("_", " "), *map(str, values), str(sum(values))])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [f"{row[0]:<{widths[0]}}  " + "  ".join(map(str.rjust, row[1:], widths[1:])) for row in cells]
    groups = marker["groups"]
    lines += [
        "",
        f"near-duplicates: {groups['photos']} photos in {groups['count']} groups, the largest has {groups['largest']}",
    ]
    if groups["largest"] > _LARGE_GROUP:
        lines.append("  so large a group hints at different photos taken for one: lower near_duplicates.hamming")
    lines += _listing("contradictions (equal photos, different labels; both kept)", marker["contradictions"], "  ".join)
    lines += _listing("quarantined", marker["quarantined"], lambda item: f"{item['sample_id']}: {item['reason']}")
    return "\n".join(line.rstrip() for line in lines)


def _counts(rows: Sequence[ManifestRow], card: TaskCard) -> dict[str, dict[str, int]]:
    counters: dict[str, Counter[str]] = {name: Counter() for name in ("train", "train_rows", "val", "test")}
    for row in rows:
        label = row.label or UNLABELLED
        counters[row.split][label] += 1
        if row.split == "train":
            counters["train_rows"][label] += row.repeats
    order = (*card.label_ids, UNLABELLED)
    return {name: {label: counter[label] for label in order if counter[label]} for name, counter in counters.items()}


def _groups(rows: Sequence[ManifestRow]) -> dict[str, int]:
    sizes = [size for size in Counter(row.group for row in rows).values() if size > 1]
    return {"count": len(sizes), "photos": sum(sizes), "largest": max(sizes, default=1)}


def _contradictions(rows: Sequence[ManifestRow]) -> list[list[str]]:
    contents: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.label is not None:
            contents[row.sha256].append(row)
    return [
        [f"{row.sample_id}: {row.label}" for row in members]
        for members in contents.values()
        if len({row.label for row in members}) > 1
    ]


def _listing(title: str, items: Sequence[Any], text: Any) -> list[str]:
    if not items:
        return []
    lines = ["", f"{title}: {len(items)}", *(f"  {text(item)}" for item in items[:SHOWN])]
    return lines + ([f"  … and {len(items) - SHOWN} more, see build.json"] if len(items) > SHOWN else [])
