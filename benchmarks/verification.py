"""Does the verification score find augmented copies whose label is no longer true?

Faults are planted with the renderer's masks. `cropped`: a copy zoomed in so that no pixel of the things that decide the
label is left. `flipped`: a sound copy under another label. The sound copies have the same parents: a crop of the same
size that keeps the evidence (so zoom gives nothing away), a mirrored photo, another exposure. Parents are photos of a
board; each is scored with its copies by the model of its own fold, which did not see it in training. Without --data,
scenes are rendered that no model has seen. Photos with a planted label error are left out.

AUC is the probability that a sound copy scores higher than a fault; intervals come from a bootstrap over parents.
Compared are RiskFuse's score, the plain log ratio log p(label | copy) - log p(label | original), and
log p(label | copy) alone. `hard` originals have p(label) below 0.5: their sound copies should not be dropped for it.
All are compared at the threshold where they find as many faults as RiskFuse's score finds at its own.

Prints a table; the last line is one JSON object. Writes nothing else unless --work or --out is given.

Example:
    python benchmarks/verification.py --data data/corridor --adapters saves/out_of_fold/fold-{0,1,2,3,4}
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish
from numpy.random import Generator
from numpy.typing import NDArray

from dataset_builders.scenes.board import ScenesConfig, load_scenes_config
from dataset_builders.task_card import TaskCard, load_task_card

TRIES = 24  # sizes that are tried for a pair of crops
KEPT = 0.9  # share of each deciding thing's pixels that a sound crop keeps
JPEG_QUALITY = 90
FRESH_STREAM = 1_000_003  # of rendered parents; no board has it
DROP_BELOW = -1.5  # the default of riskfuse verify
SOUND = ("crop", "mirror", "light")
LOST, ORIGINAL = "lost", "original"
KINDS = ("cropped", "flipped", "all")

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Parent:
    """An original: its name, BGR pixels, object ids, what stands in it, and what grade and label it has."""

    name: str
    bgr_HWC: Image
    ids_HW: Image
    things: list[dict[str, Any]]
    grade: str
    label: int


@dataclass(frozen=True)
class Copy:
    """A photo of a copy, the label that it claims, its original, and which fault it is (empty for a sound copy)."""

    photo: str
    label: int
    parent: str
    parent_label: int
    fault: str


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--adapters", nargs="+", required=True, help="one a fold, from --first-fold on; none: bare base"
    )
    parser.add_argument("--first-fold", type=int, default=0, help="fold of the first adapter (default: 0)")
    parser.add_argument("--data", type=Path, help="data set of the board; new scenes without it")
    parser.add_argument("--scenes", type=Path, default=Path("recipes/tiny/scenes.yaml"), help="how it was rendered")
    parser.add_argument("--board", default="train", help="board of the scenes file (default: train)")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tiny/base.yaml"))
    parser.add_argument(
        "--photos", type=int, default=100, help="parents an adapter, as many of each label (default: 100)"
    )
    parser.add_argument(
        "--zoom", type=float, nargs=2, default=(0.65, 0.9), help="side of a crop, share of the photo's (0.65 0.9)"
    )
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="keep copies and predictions in this directory")
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def board_parents(arguments: argparse.Namespace, config: ScenesConfig, fold: int, label: int, card: TaskCard) -> Any:
    """Photos of a fold with a label, without label errors, in random order."""
    import cv2

    from dataset_builders.manifest import read_manifest

    text = (config.out / f"{arguments.board}_truth.jsonl").read_text(encoding="utf-8")
    truths = {truth["name"]: truth for truth in map(json.loads, text.splitlines())}
    label_id = card.label_ids[label]
    rows = [
        row
        for row in read_manifest(arguments.data)
        if row.usable and row.parent is None and (row.source, row.fold, row.label) == (arguments.board, fold, label_id)
        if truths[row.name]["truth"] == label_id
    ]
    grade = next(grade for grade, of_grade in config.grades.items() if of_grade == label_id)
    for index in np.random.default_rng([arguments.seed, fold, label]).permutation(len(rows)).tolist():
        row = rows[index]
        mask = config.out / f"{arguments.board}_masks" / Path(row.name).with_suffix(".png").name
        bgr_HWC = np.asarray(cv2.imread(str(arguments.data / row.image)), np.uint8)
        ids_HW = np.asarray(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED), np.uint8)
        yield Parent(Path(row.name).stem, bgr_HWC, ids_HW, truths[row.name]["things"], grade, label)


def rendered_parents(config: ScenesConfig, number: int, label: int, card: TaskCard) -> Iterator[Parent]:
    """New scenes with a label, for the adapter of that number."""
    from dataclasses import asdict

    from dataset_builders.scenes.compose import render_scene

    grade = next(grade for grade, of_grade in config.grades.items() if of_grade == card.label_ids[label])
    for index in range(1_000_000):
        scene = render_scene(grade, FRESH_STREAM + number, index, config.hard)
        things = [{**asdict(thing), "visible": thing.visible} for thing in scene.things]
        yield Parent(f"{grade}_{index:04d}", scene.rgb_HWC[..., ::-1], scene.ids_HW, things, grade, label)


def deciding_things(parent: Parent) -> list[dict[str, Any]]:
    """The things without which the photo would get another label, hidden ones among them."""
    from dataset_builders.scenes.compose import COMBUSTIBLE, FEW_AT_MOST, HARMLESS, IGNITION

    kinds: set[str] = set()
    if parent.grade == "ignition":
        kinds = set(IGNITION)
    elif parent.grade == "combustible":
        clutter = sum(thing["kind"] in HARMLESS and thing["visible"] for thing in parent.things) > FEW_AT_MOST
        kinds = set(COMBUSTIBLE) | (set(HARMLESS) if clutter else set())
    elif parent.grade == "few":
        kinds = set(HARMLESS)
    return [thing for thing in parent.things if thing["kind"] in kinds]


def make_copies(parent: Parent, zoom: tuple[float, float], rng: Generator) -> dict[str, Image] | None:
    """Copies by name; None when no pair of crops of one size, with and without the evidence, fits the scene."""
    import cv2

    things, height = deciding_things(parent), parent.ids_HW.shape[0]
    evidence = np.isin(parent.ids_HW, [thing["object_id"] for thing in things])
    for side in np.rint(rng.uniform(*zoom, TRIES) * height).astype(int).tolist():
        keeps = np.ones((height - side + 1,) * 2, dtype=bool)
        for thing in (thing for thing in things if thing["visible"]):
            keeps &= _pixels_in_windows(parent.ids_HW == thing["object_id"], side) >= KEPT * thing["pixels"]
        loses = _pixels_in_windows(evidence, side) == 0
        corners = {"crop": keeps}
        if parent.grade in ("ignition", "combustible"):
            corners[LOST] = loses
        if not all(allowed.any() for allowed in corners.values()):
            continue
        copies: dict[str, Image] = {}
        for kind, allowed in corners.items():
            y, x = rng.choice(np.argwhere(allowed))
            window = parent.bgr_HWC[y : y + side, x : x + side]
            copies[kind] = np.asarray(cv2.resize(window, parent.bgr_HWC.shape[1::-1]), np.uint8)
        exposed = 255 * (parent.bgr_HWC / 255.0) ** rng.uniform(0.75, 1.35) * rng.uniform(0.65, 1.3)
        return copies | {"mirror": parent.bgr_HWC[:, ::-1], "light": np.clip(exposed, 0, 255).astype(np.uint8)}
    return None


def _pixels_in_windows(mask_HW: NDArray[np.bool_], side: int) -> Floats:
    """Pixels of the mask in the window of ``side`` at every corner (y, x)."""
    import cv2

    sums = cv2.integral(mask_HW.astype(np.uint8)).astype(np.float64)
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]


def plant(arguments: argparse.Namespace, number: int, card: TaskCard, folder: Path) -> tuple[list[Copy], int]:
    """Write an adapter's parents and copies, and their list; returns the copies and how many parents did not fit."""
    import cv2

    config = load_scenes_config(arguments.scenes)
    folder.mkdir(parents=True, exist_ok=True)
    copies: list[Copy] = []
    names, left_out = [], 0
    for label in range(len(card.labels)):
        rng = np.random.default_rng([arguments.seed, 1, number, label])
        if arguments.data is None:
            parents = rendered_parents(config, number, label, card)
        else:
            parents = board_parents(arguments, config, arguments.first_fold + number, label, card)
        missing = arguments.photos // len(card.labels)
        while missing and (parent := next(parents, None)) is not None:
            made = make_copies(parent, arguments.zoom, rng)
            if made is None:
                left_out += 1
                continue
            missing -= 1
            for kind, bgr_HWC in {ORIGINAL: parent.bgr_HWC, **made}.items():
                names.append(f"{parent.name}~{kind}.jpg")
                cv2.imwrite(str(folder / names[-1]), bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            copies += _claims(parent, LOST in made, len(card.labels), rng)
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return copies, left_out


def _claims(parent: Parent, has_lost: bool, labels: int, rng: Generator) -> list[Copy]:
    """Every sound copy under its own label, one of them under another label too, and the cropped one."""

    def claim(kind: str, label: int, fault: str = "") -> Copy:
        return Copy(f"{parent.name}~{kind}.jpg", label, f"{parent.name}~{ORIGINAL}.jpg", parent.label, fault)

    other = (parent.label + int(rng.integers(1, labels))) % labels
    flipped = claim(SOUND[int(rng.integers(len(SOUND)))], other, "flipped")
    cropped = [claim(LOST, parent.label, "cropped")] if has_lost else []
    return [*(claim(kind, parent.label) for kind in SOUND), flipped, *cropped]


def predicted(arguments: argparse.Namespace, adapter: str, card: TaskCard, folder: Path) -> Mapping[str, Floats]:
    """Photo name -> log-probabilities of all labels, by `riskfuse predict` with the adapter."""
    from dataset_builders.log_probabilities import read_log_probabilities
    from launch.predict import PredictConfig, predict

    out = folder.with_name(f"{folder.name}_predictions")
    config = PredictConfig(
        recipe=arguments.recipe,
        task=load_scenes_config(arguments.scenes).task,
        stage=card.stages[0],
        out=out,
        images=folder,
        photo_list=folder / "list.txt",
        adapter=adapter,
        engine="local",
    )
    predict(config)
    return {name.split("/", 1)[1]: logp_K for name, logp_K in read_log_probabilities([out], card).logp_K_of.items()}


def auc(scores_N: Floats, sound_N: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks (Mann and Whitney 1947); nan without faults or sound copies."""
    from scipy.stats import rankdata

    sound, faults = int(sound_N.sum()), int((~sound_N).sum())
    if not sound or not faults:
        return float("nan")
    return float((rankdata(scores_N)[sound_N].sum() - sound * (sound + 1) / 2) / (sound * faults))


def evaluate(copies: list[Copy], logp: Mapping[tuple[int, str], Floats], numbers: list[int], resamples: int) -> Any:
    """AUC of each scorer with intervals, and what it drops when it finds as many faults as RiskFuse's score."""
    from dataset_builders.augment.verification import agreement

    logp_copy = np.array([logp[n, c.photo][c.label] for n, c in zip(numbers, copies, strict=True)])
    logp_original = np.array([logp[n, c.parent][c.parent_label] for n, c in zip(numbers, copies, strict=True)])
    scorers = {
        "agreement": agreement(logp_copy, logp_original),
        "log_ratio": logp_copy - logp_original,
        "copy_alone": logp_copy,
    }
    fault_N = np.array([copy.fault for copy in copies])
    sound_N, hard_N = fault_N == "", logp_original < np.log(0.5)
    decisive = {(n, c.parent) for n, c in zip(numbers, copies, strict=True) if c.fault == "cropped"}
    of_decisive_N = np.array([(n, c.parent) in decisive for n, c in zip(numbers, copies, strict=True)])
    # Crops are compared with the sound copies of the same parents.
    chosen = {
        "cropped": (fault_N == "cropped") | (sound_N & of_decisive_N),
        "flipped": (fault_N == "flipped") | sound_N,
        "all": np.ones(len(copies), dtype=bool),
    }
    _, parent_N = np.unique([f"{n} {c.parent}" for n, c in zip(numbers, copies, strict=True)], return_inverse=True)
    draws = _draws(parent_N, resamples)
    found = float((scorers["agreement"][~sound_N] < DROP_BELOW).mean())
    result = {}
    for name, scores_N in scorers.items():
        threshold = DROP_BELOW if name == "agreement" else float(np.quantile(scores_N[~sound_N], found))
        result[name] = {
            "auc": {kind: round(auc(scores_N[use], sound_N[use]), 4) for kind, use in chosen.items()},
            "interval": {kind: _interval(scores_N, sound_N, use, draws) for kind, use in chosen.items()},
            "threshold": round(threshold, 3),
            "found": {kind: _share(scores_N < threshold, use & ~sound_N) for kind, use in chosen.items()},
            "sound_dropped": _share(scores_N < threshold, sound_N),
            "sound_dropped_of_hard": _share(scores_N < threshold, sound_N & hard_N),
        }
    return result


def _share(condition_N: NDArray[np.bool_], of_N: NDArray[np.bool_]) -> float | None:
    return round(float(condition_N[of_N].mean()), 4) if of_N.any() else None


def _draws(parent_N: NDArray[np.intp], resamples: int) -> list[NDArray[np.intp]]:
    """Rows of bootstrap resamples: parents are drawn, their copies come along."""
    rng = np.random.default_rng(0)
    rows_of = [np.flatnonzero(parent_N == parent) for parent in range(int(parent_N.max()) + 1)]
    return [
        np.concatenate([rows_of[i] for i in rng.integers(len(rows_of), size=len(rows_of))]) for _ in range(resamples)
    ]


def _interval(
    scores_N: Floats, sound_N: NDArray[np.bool_], use_N: NDArray[np.bool_], draws: list[NDArray[np.intp]]
) -> list[float]:
    values = [auc(scores_N[rows[use_N[rows]]], sound_N[rows[use_N[rows]]]) for rows in draws]
    return [round(float(value), 4) for value in np.nanquantile(values, [0.025, 0.975])]


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Plant, predict and compare."""
    card = load_task_card(load_scenes_config(arguments.scenes).task)
    copies: list[Copy] = []
    logp: dict[tuple[int, str], Floats] = {}
    numbers: list[int] = []
    left_out = 0
    for number, adapter in enumerate(arguments.adapters):
        folder = work / f"planted_{number}"
        planted, unfit = plant(arguments, number, card, folder)
        logp |= {(number, name): row for name, row in predicted(arguments, adapter, card, folder).items()}
        copies += planted
        numbers += [number] * len(planted)
        left_out += unfit
    faults = [copy.fault for copy in copies]
    return {
        "benchmark": "verification",
        "parents": "rendered" if arguments.data is None else arguments.board,
        "models": len(arguments.adapters),
        "zoom": list(arguments.zoom),
        "counts": {
            "parents": len({(n, c.parent) for n, c in zip(numbers, copies, strict=True)}),
            "parents_left_out": left_out,
            "sound": faults.count(""),
            **{kind: faults.count(kind) for kind in KINDS[:2]},
        },
        "scorers": evaluate(copies, logp, numbers, arguments.resamples),
    }


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(arguments, arguments.work or Path(scratch))
    counts = result["counts"]
    print(
        f"{counts['parents']} originals ({counts['parents_left_out']} did not fit), {counts['sound']} sound copies, "
        f"{counts['cropped']} cropped, {counts['flipped']} flipped"
    )
    show: Callable[[float | None], str] = lambda value: "-" if value is None else f"{value:.3f}"  # noqa: E731
    print(f"{'score':<12}" + "".join(f"{f'AUC {kind}':>24}" for kind in KINDS) + f"{'sound dropped':>16}{'of hard':>9}")
    for name, found in result["scorers"].items():
        cells = [f"{found['auc'][k]:.3f} [{found['interval'][k][0]:.3f}, {found['interval'][k][1]:.3f}]" for k in KINDS]
        dropped = f"{show(found['sound_dropped']):>16}{show(found['sound_dropped_of_hard']):>9}"
        print(f"{name:<12}" + "".join(f"{cell:>24}" for cell in cells) + dropped)
    finish(result, arguments.out)


if __name__ == "__main__":
    main()
