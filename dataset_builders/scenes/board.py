"""Boards: sets of rendered photos with label lists, object masks, and documented label errors and near-duplicates."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from dataset_builders.config_file import FrozenModel, read_config
from dataset_builders.errors import ConfigError
from dataset_builders.files import atomic_path, content_hash, write_json, write_text
from dataset_builders.processes import map_in_processes
from dataset_builders.scenes.compose import GENERATOR_VERSION, GRADES, Scene, render_scene
from dataset_builders.task_card import TaskCard, load_task_card

__all__ = ["Board", "Row", "ScenesConfig", "load_scenes_config", "make_boards", "plan_board"]

Grade = Literal["ignition", "combustible", "few", "clear", "elsewhere"]
CHUNK = 64  # photos a unit of work and of resume


class Board(FrozenModel):
    """One set of photos.

    Attributes:
        name: Of the directory and of the label list.
        stream: Seed; boards with different streams share no scene.
        counts: Label id -> number of photos.
        label_errors: Share of the rows whose written label is a neighbour of the true one, 0 to 1.
        near_duplicates: Share of the rows whose photo is a second shot of another row's scene, 0 to 1.
        first: Only this many rows of the (shuffled) list; all when None.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    stream: int
    counts: dict[str, Annotated[int, Field(ge=0)]]
    label_errors: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    near_duplicates: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    first: Annotated[int, Field(gt=0)] | None = None


class ScenesConfig(FrozenModel):
    """What ``riskfuse scenes`` renders.

    Attributes:
        task: Path of the task card.
        out: Directory to write.
        hard: Difficulty of the scenes, 0 to 1.
        grades: What a scene holds -> the label id that the task's rules give it.
        boards: The sets to render.
    """

    task: Path
    out: Path
    hard: Annotated[float, Field(ge=0, le=1)]
    grades: dict[Grade, str]
    boards: Annotated[tuple[Board, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _complete(self) -> ScenesConfig:
        missing = [grade for grade in GRADES if grade not in self.grades]
        if missing:
            raise ValueError(f"grades: no label for {', '.join(missing)}; every kind of scene needs one")
        if len(set(self.grades.values())) != len(GRADES):
            raise ValueError("grades: two kinds of scenes share a label; give each its own")
        for board in self.boards:
            unknown = [label for label in board.counts if label not in self.grades.values()]
            if unknown:
                raise ValueError(f"boards.{board.name}.counts: no scene has the label {', '.join(unknown)}")
        return self


@dataclass(frozen=True)
class Row:
    """One photo of a board.

    Attributes:
        name: File name.
        label: Label id that the list writes.
        truth: Label id that the scene has.
        scene: Number of the scene in the board's stream.
        take: 0 for the first shot of a scene, more for a near-duplicate.
        twin: Name of the photo that this one nearly duplicates; empty otherwise.
    """

    name: str
    label: str
    truth: str
    scene: int
    take: int
    twin: str


def load_scenes_config(path: Path) -> ScenesConfig:
    """Read and check a scenes file.

    Raises:
        ConfigError: It is missing, no YAML, or breaks a rule; all findings are in the message.
    """
    config = read_config(path, ScenesConfig, "scenes file", "a shipped one is recipes/tiny/scenes.yaml")
    card = load_task_card(config.task)
    unknown = [label for label in config.grades.values() if label not in card.label_ids]
    if unknown:
        raise ConfigError(
            f"{path}: grades name {', '.join(unknown)}, which {config.task} does not; it has {card.label_ids}"
        )
    return config


def plan_board(board: Board, card: TaskCard) -> list[Row]:
    """The rows of a board: order, planted label errors and near-duplicates, all drawn from its stream alone."""
    rng = np.random.default_rng([GENERATOR_VERSION, board.stream])
    truths = [label for label in card.label_ids for _ in range(board.counts.get(label, 0))]
    truths = [truths[int(i)] for i in rng.permutation(len(truths))]
    names = [f"{board.name}_{i:05d}.jpg" for i in range(len(truths))]
    rows = [Row(name, truth, truth, i, 0, "") for i, (name, truth) in enumerate(zip(names, truths, strict=True))]
    for i in _sample(rng, len(rows), board.near_duplicates):
        twins = [r for r in rows if r.truth == rows[i].truth and r.name != rows[i].name and not r.twin]
        if twins:
            twin = twins[int(rng.integers(len(twins)))]
            rows[i] = Row(rows[i].name, rows[i].label, rows[i].truth, twin.scene, 1, twin.name)
    ladder = [label.id for label in card.ladder]
    for i in _sample(rng, len(rows), board.label_errors):
        if rows[i].truth in ladder:
            at = ladder.index(rows[i].truth)
            near = [ladder[j] for j in (at - 1, at + 1) if 0 <= j < len(ladder)]
            wrong = near[int(rng.integers(len(near)))]
            rows[i] = Row(rows[i].name, wrong, rows[i].truth, rows[i].scene, rows[i].take, rows[i].twin)
    return rows[: board.first]


def _sample(rng: np.random.Generator, total: int, share: float) -> list[int]:
    return sorted(int(i) for i in rng.choice(total, size=round(share * total), replace=False))


def make_boards(config: ScenesConfig, workers: int, say: Callable[[str], None]) -> Path:
    """Render every board; goes on where a killed run stopped.

    For each board NAME it writes NAME/*.jpg, NAME_masks/*.png (object id a pixel), NAME.txt (name<TAB>label),
    NAME_names.txt (names only), NAME_truth.jsonl (place, things, visibility a photo) and NAME_planted.csv; and
    contact_sheet.png for all.

    Returns:
        The output directory, which ends with scenes.json as its completion marker.
    """
    card = load_task_card(config.task)
    stamp = content_hash(
        [GENERATOR_VERSION, config.model_dump(mode="json", exclude={"out"}), card.model_dump(mode="json")]
    )
    marker = config.out / "scenes.json"
    if marker.exists() and json.loads(marker.read_text(encoding="utf-8")).get("stamp") == stamp:
        say(f"{config.out}: complete already")
        return config.out
    marker.unlink(missing_ok=True)
    grade_of_label = {label: grade for grade, label in config.grades.items()}
    for board in config.boards:
        rows = plan_board(board, card)
        jobs = [
            (str(config.out), board.name, stamp, number, board.stream, config.hard,
             [(row, grade_of_label[row.truth]) for row in rows[start : start + CHUNK]])
            for number, start in enumerate(range(0, len(rows), CHUNK))
        ]  # fmt: skip
        _clean(config.out, board.name, stamp)
        remedy = "give fewer --workers and run the command again, which goes on where it stopped"
        rendered = map_in_processes(_render_chunk, jobs, workers=workers, chunk=1, remedy=remedy)
        for done, _ in enumerate(rendered, start=1):
            if done % 10 == 0 or done == len(jobs):
                say(f"{board.name}: {min(done * CHUNK, len(rows))} of {len(rows)} photos")
        _write_lists(config.out, board, rows, card, len(jobs))
    _contact_sheet(config.out / "contact_sheet.png", config, card)
    write_json(marker, {"stamp": stamp, "generator": GENERATOR_VERSION, "boards": [b.name for b in config.boards]})
    return config.out


def _clean(out: Path, name: str, stamp: str) -> None:
    """Remove what an earlier run with other settings left."""
    parts = out / f".{name}_parts"
    note = parts / "stamp"
    if note.exists() and note.read_text() == stamp:
        return
    for stale in (parts, out / name, out / f"{name}_masks"):
        shutil.rmtree(stale, ignore_errors=True)
    write_text(note, stamp)


def _render_chunk(job: tuple[str, str, str, int, int, float, list[tuple[Row, Grade]]]) -> None:
    """Render one chunk, unless its part file says that it is complete."""
    import cv2

    out, board, _, number, stream, hard, rows = job
    part = Path(out) / f".{board}_parts" / f"{number:05d}.jsonl"
    if part.exists():
        return
    cv2.setNumThreads(1)
    lines = []
    for row, grade in rows:
        scene = render_scene(grade, stream, row.scene, hard, row.take)
        quality = int(np.random.default_rng([stream, row.scene, row.take]).integers(72, 95))
        for folder, suffix, image, options in (
            (board, ".jpg", scene.rgb_HWC[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]),
            (f"{board}_masks", ".png", scene.ids_HW, []),
        ):
            with atomic_path((Path(out) / folder / row.name).with_suffix(suffix)) as temporary:
                temporary.write_bytes(cv2.imencode(suffix, image, options)[1].tobytes())
        lines.append(json.dumps(_truth(row, scene), ensure_ascii=False))
    write_text(part, "\n".join(lines) + "\n")


def _truth(row: Row, scene: Scene) -> dict[str, object]:
    things = [{**asdict(t), "share": round(t.share, 4), "distance_m": round(t.distance_m, 3), "visible": t.visible}
              for t in scene.things]  # fmt: skip
    return {"name": row.name, "truth": row.truth, "place": scene.place, "things": things}


def _write_lists(out: Path, board: Board, rows: list[Row], card: TaskCard, parts: int) -> None:
    write_text(out / f"{board.name}.txt", "".join(f"{r.name}\t{card.text_of(r.label)}\n" for r in rows))
    write_text(out / f"{board.name}_names.txt", "".join(f"{r.name}\n" for r in rows))
    folder = out / f".{board.name}_parts"
    text = "".join((folder / f"{n:05d}.jsonl").read_text(encoding="utf-8") for n in range(parts))
    write_text(out / f"{board.name}_truth.jsonl", text)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["name", "planted", "written_label", "true_label", "twin"])
    writer.writerows(_planted(rows))
    write_text(out / f"{board.name}_planted.csv", table.getvalue())


def _planted(rows: list[Row]) -> Iterator[tuple[str, str, str, str, str]]:
    for row in rows:
        if row.label != row.truth:
            yield row.name, "label_error", row.label, row.truth, row.twin
        if row.twin:
            yield row.name, "near_duplicate", row.label, row.truth, row.twin


def _contact_sheet(path: Path, config: ScenesConfig, card: TaskCard, across: int = 8, side: int = 168) -> None:
    """A PNG with one row of photos a label, from the first board."""
    import cv2

    board = config.boards[0]
    rows = plan_board(board, card)
    sheet = np.full((side * len(card.labels), side * across, 3), 255, np.uint8)
    for y, label in enumerate(card.labels):
        for x, row in enumerate([r for r in rows if r.truth == label.id == r.label][:across]):
            photo = np.asarray(cv2.imread(str(config.out / board.name / row.name)))
            small = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
            sheet[y * side : (y + 1) * side, x * side : (x + 1) * side] = small
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
