"""Does the second look pay? Base, hard override and fused over several training seeds, and one design against another.

Reads what `riskfuse fuse` wrote (`decisions.parquet`), one fusion directory a training seed; an arm is a set of them.
Within an arm fused is compared with base and with the hard override by the same decision. Every later arm is compared
with the first: by fused, and by how well each specialist's probability ranks its target photos (AUC and average
precision).

All figures are means over the seeds. Intervals are 95 % of a bootstrap over photos: a resample is the same photos for
all arms and seeds, is scored for each and then averaged over the seeds. What the luck of a training does shows in the
figures of each seed, which are in the JSON object.

Prints a table; the last line is one JSON object. Writes nothing else unless --out is given.

Example:
    python benchmarks/second_look.py --arm board runs/board/fusion runs/board_1/fusion runs/board_2/fusion
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from harness import finish
from numpy.typing import NDArray

from dataset_builders.task_card import TaskCard, load_task_card
from fusion.bootstrap import interval
from fusion.metrics import accuracy, class_scores, weighted_f1
from fusion.systems import DECISIONS, SYSTEMS

LABEL_FIGURES = ("score", "error_rate", "f1_first")
RANK_FIGURES = ("auc", "average_precision")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Decisions:
    """What one seed's fusion says about N photos, in the order of their identifiers."""

    photos: list[str]
    label_N: Ints
    predicted: dict[str, Ints]  # by system, and what was submitted
    positive: dict[str, Floats]  # by specialist


@dataclass(frozen=True)
class Figure:
    """One figure of S seeds on all photos, and its mean over the seeds on each of R resamples."""

    by_seed_S: Floats
    resampled_R: Floats

    def describe(self, reference: Figure | None = None) -> dict[str, Any]:
        """The mean with its interval, or the difference from a reference."""
        by_seed_S, resampled_R = self.by_seed_S, self.resampled_R
        if reference is not None:
            resampled_R = resampled_R - reference.resampled_R
            mean = float(by_seed_S.mean() - reference.by_seed_S.mean())
            return {"difference": mean, "interval": list(interval(resampled_R))}
        return {"mean": float(by_seed_S.mean()), "interval": list(interval(resampled_R)), "by_seed": by_seed_S.tolist()}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--arm", nargs="+", action="append", required=True, metavar="NAME DIR", help="a name and fusion directories"
    )
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"))
    parser.add_argument(
        "--source",
        nargs="+",
        default=["board_b"],
        metavar="NAME",
        help="test sources to score, several together as one (default: board_b)",
    )
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    arguments = parser.parse_args()
    for name, *directories in arguments.arm:
        if not directories:
            parser.error(f"--arm {name}: give at least one fusion directory after the name")
    return arguments


def read_decisions(directory: Path, sources: list[str], card: TaskCard) -> Decisions:
    """Read one seed's decisions about the photos of test sources, which must all be labelled and decided."""
    path = directory / "decisions.parquet"
    if not path.is_file():
        raise SystemExit(f"{path}: not there; `riskfuse fuse … --out {directory}` writes it")
    table = pq.read_table(path)
    missing = set(sources) - set(pc.unique(table["source"]).to_pylist())
    if missing:
        raise SystemExit(f"{path}: has no photos of source {', '.join(sorted(missing))}; see --source")
    table = table.filter(pc.is_in(table["source"], value_set=pa.array(sources))).sort_by("sample_id")
    names = ("label", *SYSTEMS, "submitted")
    if not len(table) or any(table[name].null_count for name in names):
        raise SystemExit(f"{path}: every photo of {', '.join(sources)} needs a label and decisions; see --source")
    place = {label: k for k, label in enumerate(card.label_ids)}
    classes = {name: np.array([place[value] for value in table[name].to_pylist()]) for name in names}
    return Decisions(
        table["sample_id"].to_pylist(),
        classes.pop("label"),
        classes,
        {
            name.removesuffix("_positive"): table[name].to_numpy()
            for name in table.column_names
            if name.endswith("_positive")
        },
    )


def measure_labels(label_N: Ints, predicted_SN: list[Ints], drawn_RN: Ints, card: TaskCard) -> dict[str, Figure]:
    """Score, error rate and F1 of the first class of one system over its seeds."""
    weights_K = np.array([label.weight for label in card.labels])
    of = {
        "score": lambda confusion: weighted_f1(confusion, weights_K),
        "error_rate": lambda confusion: 1 - accuracy(confusion),
        "f1_first": lambda confusion: class_scores(confusion).f1[..., 0],
    }
    K = len(card.labels)
    every_SRKK = []
    for predicted_N in predicted_SN:
        cell_NC = np.eye(K * K)[label_N * K + predicted_N]
        every_SRKK.append((drawn_RN @ cell_NC).reshape(-1, K, K))  # the first row of drawn_RN is all photos, once
    return {
        name: Figure(*_split(np.stack([figure(confusion) for confusion in every_SRKK]))) for name, figure in of.items()
    }


def measure_ranks(positive_N: NDArray[np.bool_], score_SN: list[Floats], drawn_RN: Ints) -> dict[str, Figure]:
    """AUC and average precision of one specialist over its seeds."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    of = {"auc": roc_auc_score, "average_precision": average_precision_score}
    return {
        name: Figure(
            *_split(
                np.array(
                    [[rank(positive_N, score_N, sample_weight=drawn_N) for drawn_N in drawn_RN] for score_N in score_SN]
                )
            )
        )
        for name, rank in of.items()
    }


def _split(values_SR: Floats) -> tuple[Floats, Floats]:
    return values_SR[:, 0], values_SR[:, 1:].mean(axis=0)


def main() -> None:
    """Read, measure, report."""
    arguments = parse_arguments()
    card = load_task_card(arguments.task)
    seeds = {
        name: [read_decisions(Path(directory), arguments.source, card) for directory in directories]
        for name, *directories in arguments.arm
    }
    first = next(iter(seeds.values()))[0]
    for decisions in (one for several in seeds.values() for one in several):
        if decisions.photos != first.photos or (decisions.label_N != first.label_N).any():
            raise SystemExit("the fusion directories are about other photos or labels; they must share the test set")
    label_N = first.label_N
    rng = np.random.default_rng(0)
    drawn_RN = rng.multinomial(len(label_N), np.full(len(label_N), 1 / len(label_N)), arguments.resamples)
    drawn_RN = np.vstack([np.ones_like(label_N), drawn_RN])

    figures: dict[str, dict[str, dict[str, Figure]]] = {}
    for arm, several in seeds.items():
        figures[arm] = {
            system: measure_labels(label_N, [one.predicted[system] for one in several], drawn_RN, card)
            for system in (*SYSTEMS, "submitted")
        }
        for specialist in card.specialists:
            if all(specialist.name in one.positive for one in several):
                target_N = np.isin(label_N, [card.label_ids.index(target) for target in specialist.targets])
                scores = [one.positive[specialist.name] for one in several]
                figures[arm][specialist.name] = measure_ranks(target_N, scores, drawn_RN)

    differences = []
    for arm, systems in figures.items():
        pairs = [(f"fused_{way}", arm, f"{rival}_{way}") for way in DECISIONS for rival in ("base", "override")]
        reference = next(iter(figures))
        if arm != reference:
            names = [*(f"fused_{way}" for way in DECISIONS), *(s.name for s in card.specialists)]
            pairs += [(name, reference, name) for name in names if name in systems and name in figures[reference]]
        for name, rival_arm, rival in pairs:
            found = {k: f.describe(figures[rival_arm][rival][k]) for k, f in systems[name].items()}
            if "error_rate" in found:
                before, after = figures[rival_arm][rival]["error_rate"], systems[name]["error_rate"]
                found["relative_error"] = {
                    "difference": float(after.by_seed_S.mean() / before.by_seed_S.mean() - 1),
                    "interval": list(interval(after.resampled_R / before.resampled_R - 1)),
                }
            differences.append({"system": f"{arm} {name}", "against": f"{rival_arm} {rival}", **found})
    result = {
        "benchmark": "second_look",
        "source": arguments.source,
        "photos": len(label_N),
        "seeds": {arm: len(several) for arm, several in seeds.items()},
        "arms": {
            arm: {name: {k: f.describe() for k, f in of.items()} for name, of in systems.items()}
            for arm, systems in figures.items()
        },
        "differences": differences,
    }
    report(result)
    finish(result, arguments.out)


def report(result: dict[str, Any]) -> None:
    """Print the tables: labels, ranks, differences."""
    for arm, systems in result["arms"].items():
        print(f"{arm}: {result['seeds'][arm]} seeds, {result['photos']} photos of {result['source']}")
        for columns in (LABEL_FIGURES, RANK_FIGURES):
            print(f"  {'':<18}" + "".join(f"{column:>28}" for column in columns))
            for name, found in systems.items():
                if columns[0] in found:
                    print(f"  {name:<18}" + "".join(_cell(found[c]["mean"], found[c]["interval"], "") for c in columns))
    print("differences")
    for found in result["differences"]:
        columns = [c for c in (*LABEL_FIGURES, "relative_error", *RANK_FIGURES) if c in found]
        print(f"  {found['system']} - {found['against']}")
        for column in columns:
            print(f"    {column:<18}{_cell(found[column]['difference'], found[column]['interval'], '+')}")


def _cell(value: float, bounds: list[float], sign: str) -> str:
    return f"{value:{sign}.3f} [{bounds[0]:{sign}.3f}, {bounds[1]:{sign}.3f}]".rjust(28)


if __name__ == "__main__":
    main()
