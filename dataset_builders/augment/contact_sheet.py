"""A page of photos for people: one self-contained HTML file, without scripts, with thumbnails inside."""

from __future__ import annotations

import base64
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from dataset_builders.augment.verification import is_copy
from dataset_builders.errors import DataError
from dataset_builders.files import write_text
from dataset_builders.manifest import DROPPED, ManifestRow, read_manifest
from dataset_builders.task_card import TaskCard

__all__ = ["Group", "Picture", "transform_names", "write_contact_sheet", "write_verification_sheet"]

GROUPS_SHOWN = 60  # originals on a verification sheet
_QUALITY = 80
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff; }
  section { border-top: 1px solid #ccc; padding: 0.6em 0; }
  h2 { font-size: 1em; margin: 0 0 0.4em; }
  .row { display: flex; flex-wrap: wrap; gap: 12px; }
  figure { margin: 0; width: {{ side + 8 }}px; }
  img { border: 4px solid #ccc; display: block; max-width: 100%; }
  .good img { border-color: #2a8f4d; }
  .bad img { border-color: #c62828; }
  figcaption { font-size: 12px; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for paragraph in intro %}<p>{{ paragraph }}</p>
{% endfor %}
{% for group in groups %}<section>
<h2>{{ group.title }}</h2>
<div class="row">
{% for picture in group.pictures %}<figure class="{{ picture.tone }}">
<img src="{{ thumbnail(picture.image) }}" alt="{{ picture.lines | join(', ') }}" title="{{ picture.hint }}">
<figcaption>{% for line in picture.lines %}{{ line }}<br>{% endfor %}</figcaption>
</figure>
{% endfor %}</div>
</section>
{% endfor %}</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo with its caption.

    Attributes:
        image: File to show.
        lines: The caption, line by line.
        tone: Colour of the frame: grey, green or red.
        hint: Text that is shown when the pointer rests on the photo.
    """

    image: Path
    lines: tuple[str, ...] = ()
    tone: Literal["plain", "good", "bad"] = "plain"
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Photos that stand side by side under a heading, such as an original and its copies."""

    title: str
    pictures: tuple[Picture, ...]


def write_contact_sheet(
    path: Path, title: str, intro: Sequence[str], groups: Sequence[Group], *, side: int = 200
) -> None:
    """Write the page, atomically. The same photos and texts give the same bytes.

    Args:
        path: HTML file to write.
        title: Heading of the page.
        intro: Paragraphs below it.
        groups: What is shown, in this order.
        side: Pixels of the longer side of a thumbnail; smaller photos keep their size.

    Raises:
        DataError: A photo cannot be read.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_TEMPLATE).render(
        title=title, intro=intro, groups=groups, side=side, thumbnail=lambda image: _data_uri(image, side)
    )
    write_text(path, page)


def transform_names(transform: str | None) -> str:
    """Names of the transforms in a manifest's ``transform``, in their order: ``HorizontalFlip, Affine``."""
    return ", ".join(str(step["transform"]) for step in json.loads(transform or "[]")) or "nothing"


def write_verification_sheet(path: Path, dataset_dir: Path, card: TaskCard, verification: Mapping[str, Any]) -> None:
    """The page of a verified data set: originals beside their copies, the originals with the worst copy first.

    Args:
        path: HTML file to write.
        dataset_dir: The data set.
        card: Its task card.
        verification: What ``build.json`` holds under that name.

    Raises:
        DataError: A photo cannot be read.
    """
    rows = read_manifest(dataset_dir)
    copies: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in filter(is_copy, rows):
        copies[str(row.parent)].append(row)
    originals = [row for row in rows if row.sample_id in copies]
    for members in copies.values():
        members.sort(key=_worst_first)
    originals.sort(key=lambda row: _worst_first(copies[row.sample_id][0])[0])
    shown = originals[:GROUPS_SHOWN]
    intro = [
        f"Judge: {verification['by']}. {len(verification['dropped'])} of {verification['copies']} copies were dropped "
        "(red frame), the others kept (green frame). Grey: the original.",
        "Score: higher means that the label is still true; about -1.5 and more is what a copy gets that is as probable "
        "as its original.",
        f"{len(shown)} of {len(originals)} originals, those with the worst copy first.",
    ]
    groups = [_group(dataset_dir, card, original, copies[original.sample_id]) for original in shown]
    write_contact_sheet(path, f"Verification of {dataset_dir.name}", intro, groups)


def _worst_first(row: ManifestRow) -> tuple[float, str]:
    return (float("inf") if row.verification_score is None else row.verification_score, row.sample_id)


def _group(dataset_dir: Path, card: TaskCard, original: ManifestRow, copies: Sequence[ManifestRow]) -> Group:
    label = card.text_of(str(original.label))
    pictures = [Picture(dataset_dir / original.image, (original.name, "original"))]
    for row in copies:
        score = "no score" if row.verification_score is None else f"score {row.verification_score:.2f}"
        lines = (f"{score}, {'dropped' if row.status == DROPPED else 'kept'}", transform_names(row.transform))
        tone: Literal["good", "bad"] = "bad" if row.status == DROPPED else "good"
        pictures.append(Picture(dataset_dir / row.image, lines, tone, row.transform or ""))
    return Group(f"{original.sample_id}: {original.label} ({label})", tuple(pictures))


def _data_uri(path: Path, side: int) -> str:
    try:
        with Image.open(path) as opened:
            thumbnail = opened.convert("RGB")
    except OSError as error:
        raise DataError(f"{path}: cannot be shown on the contact sheet: {error}") from error
    thumbnail.thumbnail((side, side))
    buffer = io.BytesIO()
    thumbnail.save(buffer, format="JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
