"""Does augmentation help? Stage 1 on the rendered board: no copies, classic ones, VL-ADAS, VL-ADAS with verification.

All arms train the recipe for the same number of steps: a class has the same number of rows in every arm, half of them
copies where there are copies. Copies, order and initial weights follow the training seed. Verification asks fold models
that saw copies of other photos, but neither a copy's original nor any copy of it (riskfuse out-of-fold --with-copies).
Validation photos decide temperature and decision rule, as riskfuse fuse does; board A is only scored.

Reported per arm, on board A, mean over the seeds: the score of the decision rule and of the most probable label, F1
of the most dangerous label, log-loss, and the AUC by which its probability ranks the most dangerous photos before the
others. Intervals of an arm and of paired differences are 95 % of a bootstrap over photos; every resample is scored for
all arms and seeds and averaged over the seeds.

Everything is made by RiskFuse's own commands below --work and is not made again when it is there: about two hours on
two cores. Prints a table; the last line is one JSON object.

Example:
    python benchmarks/augmentation.py --data data/corridor --out benchmarks/results/augmentation.cpu-2-cores.json
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish
from numpy.typing import NDArray

from dataset_builders.manifest import read_manifest
from dataset_builders.task_card import TaskCard, load_task_card

TASK = Path("recipes/tasks/corridor.yaml")
RECIPE = Path("recipes/tiny/base.yaml")
POLICIES = {"classic": Path("recipes/augment/classic.yaml"), "vl_adas": Path("recipes/augment/corridor.yaml")}
ARMS = ("none", "classic", "vl_adas", "vl_adas_verified")
REFERENCES = ("none", "classic")  # every later arm is compared with these
SOURCE = "board_a"
COLUMNS = ("score", "score_argmax", "log_loss", "auc_first")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/corridor"), help="the board, built and not augmented")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/augmentation"), help="for data sets, models, predictions"
    )
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(42, 1, 2))
    parser.add_argument("--drop-quantile", type=float, default=0.05, help="of each label's copies (default: 0.05)")
    parser.add_argument("--override", nargs="*", default=(), metavar="KEY=VALUE", help="keys of the recipe")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def riskfuse(*words: object) -> None:
    """Run a subcommand; every one of them does nothing when its result is there."""
    subprocess.run([sys.executable, "-m", "launch.cli", *map(str, words)], check=True, stdout=sys.stderr)


def make_data(arguments: argparse.Namespace, arm: str, seed: int) -> Path:
    """The data set of an arm and a seed."""
    if arm == "none":
        return arguments.data
    out: Path = arguments.work / "data" / f"{arm}_{seed}"
    policy = POLICIES[arm.removesuffix("_verified")]
    riskfuse("augment", policy, "--dataset", arguments.data, "--out", out, "--seed", seed)
    if arm.endswith("_verified"):
        verify(arguments, out, seed)
    return out


def verify(arguments: argparse.Namespace, dataset: Path, seed: int) -> None:
    """Drop the copies that fold models do not believe."""
    folds = sorted({row.fold for row in read_manifest(dataset) if row.parent is not None})
    directories = [arguments.work / "predictions" / f"copies_{seed}" / f"fold-{fold}" for fold in folds]
    if not all((directory / "predictions.json").is_file() for directory in directories):
        train_judges(arguments, folds)
        for fold, directory in zip(folds, directories, strict=True):
            adapter = arguments.work / "judges" / f"fold-{fold}"
            predict(arguments, adapter, dataset, directory, "--splits", "train", "--folds", fold)
    rule = ["--drop-quantile", arguments.drop_quantile]
    riskfuse("verify", dataset, "--task", TASK, "--by", "stage1", "--predictions", *directories, *rule)


def train_judges(arguments: argparse.Namespace, folds: Sequence[int]) -> None:
    """Stage 1 without each fold that has copies, on the first seed's copies for all seeds."""
    data = make_data(arguments, "vl_adas", arguments.seeds[0])
    words: list[object] = ["out-of-fold", arguments.recipe, "--task", TASK, "--data", data, "--with-copies"]
    words += ["--folds", ",".join(map(str, folds))]
    words += ["--saves", arguments.work / "judges", "--out", arguments.work / "predictions" / "judges"]
    riskfuse(*words, *(["--override", *arguments.override] if arguments.override else []))


def predict(arguments: argparse.Namespace, adapter: Path, data: Path, out: Path, *options: object) -> None:
    """Score photos with an adapter."""
    words = ["predict", "--recipe", arguments.recipe, "--task", TASK, "--stage", "base", "--adapter", adapter]
    riskfuse(*words, "--data", data, "--out", out, "--engine", "local", "--batch-size", 32, *options)


def train(arguments: argparse.Namespace, dataset: Path, adapter: Path, seed: int) -> None:
    """Train stage 1, unless that is done."""
    if (adapter / "all_results.json").is_file():
        return
    command = [sys.executable, "-m", "llamafactory.cli", "train", str(arguments.recipe), f"dataset_dir={dataset}"]
    command += [f"output_dir={adapter}", f"seed={seed}", *arguments.override]
    subprocess.run(command, check=True, stdout=sys.stderr)


def read_run(out: Path, data: Path, card: TaskCard) -> dict[str, tuple[Floats, Ints]]:
    """Log-probabilities (N, K) and true classes (N,) of the validation photos and of board A."""
    from dataset_builders.log_probabilities import read_log_probabilities

    found = read_log_probabilities([out], card).logp_K_of
    rows = [row for row in read_manifest(data) if row.sample_id in found]
    parts = {}
    for name in ("val", SOURCE):
        members = [row for row in rows if name in (row.split, row.source)]
        labels_N = np.array([card.label_ids.index(str(row.label)) for row in members])
        parts[name] = (np.stack([found[row.sample_id] for row in members]), labels_N)
    return parts


def evaluate(runs: Mapping[str, list[dict[str, Any]]], card: TaskCard, resamples: int) -> dict[str, Any]:
    """Scores of all arms, their intervals, and paired differences; means over the seeds."""
    from fusion.bootstrap import interval, resample_confusions
    from fusion.calibration import apply_temperature, fit_temperature, log_loss
    from fusion.decision import decide, fit_offsets
    from fusion.metrics import class_scores, confusion_matrix, weighted_f1

    weights_K = np.array([label.weight for label in card.labels])
    classes = len(card.labels)
    arms: dict[str, Any] = {}
    by_rule_SN, by_argmax_SN, owners = [], [], []
    loss_of: dict[str, Floats] = {}  # of every photo; means over the seeds, as is the next one
    wins_of: dict[str, Floats] = {}  # 1 where a most dangerous photo ranks before another one, by pair
    for arm, parts_of_seeds in runs.items():
        values = []
        losses_SN, wins_SPN = [], []
        for parts in parts_of_seeds:
            val_NK, val_N = parts["val"]
            test_NK, test_N = parts[SOURCE]
            temperature = fit_temperature(val_NK, val_N)
            offsets = fit_offsets(apply_temperature(val_NK, temperature), val_N, weights_K)
            calibrated_NK = apply_temperature(test_NK, temperature)
            by_rule_SN.append(decide(calibrated_NK, offsets))
            by_argmax_SN.append(test_NK.argmax(axis=1))
            owners.append(arm)
            losses_SN.append(-test_NK[np.arange(len(test_N)), test_N])
            wins_SPN.append(_wins(test_NK[:, 0], test_N == 0))
            ruled, plain = (confusion_matrix(test_N, p, classes) for p in (by_rule_SN[-1], by_argmax_SN[-1]))
            values.append(
                {
                    "score": float(weighted_f1(ruled, weights_K)),
                    "score_argmax": float(weighted_f1(plain, weights_K)),
                    "f1_first": float(class_scores(ruled).f1[0]),
                    "log_loss": log_loss(test_NK, test_N),
                    "auc_first": float(wins_SPN[-1].mean()),
                    "error_rate": float((by_rule_SN[-1] != test_N).mean()),
                }
            )
        loss_of[arm], wins_of[arm] = np.mean(losses_SN, axis=0), np.mean(wins_SPN, axis=0)
        arms[arm] = {"seeds": values, "mean": {key: float(np.mean([v[key] for v in values])) for key in values[0]}}
    differences: dict[str, Any] = {}
    for name, predicted_SN in (("score", by_rule_SN), ("score_argmax", by_argmax_SN)):
        rng = np.random.default_rng(0)
        confusions = resample_confusions(test_N, predicted_SN, classes, resamples=resamples, rng=rng)
        scores_SR = weighted_f1(confusions, weights_K)
        mean_R = {arm: scores_SR[[owner == arm for owner in owners]].mean(axis=0) for arm in arms}
        for arm in arms:
            arms[arm]["mean"][f"{name}_interval"] = list(interval(mean_R[arm]))
        for arm, reference in _pairs(arms):
            gain = arms[arm]["mean"][name] - arms[reference]["mean"][name]
            differences.setdefault(f"{arm} - {reference}", {})[name] = {
                "gain": gain,
                "interval": list(interval(mean_R[arm] - mean_R[reference])),
            }
    drawn_RN = np.random.default_rng(0).multinomial(len(test_N), np.full(len(test_N), 1 / len(test_N)), resamples)
    smooth: dict[str, dict[str, Floats]] = {
        "log_loss": {arm: drawn_RN @ loss_N / len(test_N) for arm, loss_N in loss_of.items()},
        "auc_first": {arm: _resampled_auc(wins_PN, drawn_RN, test_N == 0) for arm, wins_PN in wins_of.items()},
    }
    for name, values_R in smooth.items():
        for arm in arms:
            arms[arm]["mean"][f"{name}_interval"] = list(interval(values_R[arm]))
        for arm, reference in _pairs(arms):
            differences[f"{arm} - {reference}"][name] = {
                "gain": arms[arm]["mean"][name] - arms[reference]["mean"][name],
                "interval": list(interval(values_R[arm] - values_R[reference])),
            }
    return {"arms": arms, "differences": differences}


def _wins(score_N: Floats, first_N: NDArray[np.bool_]) -> Floats:
    """For every pair of a photo of the first class and another one: 1 when it scores higher, a half when equal."""
    first_P, other_N = score_N[first_N][:, None], score_N[~first_N][None]
    return (first_P > other_N) + 0.5 * (first_P == other_N)


def _resampled_auc(wins_PN: Floats, drawn_RN: Ints, first_N: NDArray[np.bool_]) -> Floats:
    """AUC of every resample, shape (R,), from the pairs and how often each photo was drawn."""
    first_RP, other_RN = drawn_RN[:, first_N], drawn_RN[:, ~first_N]
    won_R = ((first_RP @ wins_PN) * other_RN).sum(axis=1)
    return won_R / np.maximum(first_RP.sum(axis=1) * other_RN.sum(axis=1), 1)


def _pairs(arms: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every arm with the references that come before it."""
    names = list(arms)
    return [(arm, rival) for rival in REFERENCES for arm in names if rival in names[: names.index(arm)]]


def _cell(value: float, bounds: Sequence[float], sign: str) -> str:
    return f"{value:{sign}.3f} [{bounds[0]:{sign}.3f}, {bounds[1]:{sign}.3f}]".rjust(26)


def main() -> None:
    """Make what is missing, evaluate and report."""
    arguments = parse_arguments()
    card = load_task_card(TASK)
    runs: dict[str, list[dict[str, Any]]] = {}
    for arm in arguments.arms:
        runs[arm] = []
        for seed in arguments.seeds:
            name = f"{arm}_{seed}"
            adapter, out = arguments.work / "saves" / name, arguments.work / "predictions" / name
            train(arguments, make_data(arguments, arm, seed), adapter, seed)
            predict(arguments, adapter, arguments.data, out, "--splits", "val,test")
            runs[arm].append(read_run(out, arguments.data, card))
    result = {"benchmark": "augmentation", "seeds": list(arguments.seeds), **evaluate(runs, card, arguments.resamples)}
    print(f"{'arm':<32}" + "".join(f"{name:>26}" for name in COLUMNS))
    for arm, values in result["arms"].items():
        mean = values["mean"]
        print(f"{arm:<32}" + "".join(_cell(mean[name], mean[f"{name}_interval"], "") for name in COLUMNS))
    for pair, found in result["differences"].items():
        print(f"{pair:<32}" + "".join(_cell(found[name]["gain"], found[name]["interval"], "+") for name in COLUMNS))
    finish(result, arguments.out)


if __name__ == "__main__":
    main()
