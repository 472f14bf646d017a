"""Is it the form of fusion that limits the second look, or what the models say?

Fusion multiplies stage 1's probabilities by one coefficient a specialist. Its rival here may do what it likes with the
same opinions: a multinomial logistic regression on all log-probabilities, regularised as cross-validation has it
(stacking; Wolpert, Neural Networks 5, 1992), with the same decision rule. Both are cross-fitted in the same folds on
the photos that fusion is fitted on; test photos have no part in it.

Prints a table; the last line is one JSON object. Writes nothing else unless --out is given.

Example:
    python benchmarks/stacking.py --predictions predictions/board
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from harness import finish
from numpy.typing import NDArray

from dataset_builders.task_card import load_task_card
from fusion.bootstrap import interval, resample_confusions
from fusion.calibration import renormalise
from fusion.cross_fit import assign_folds
from fusion.decision import decide, fit_offsets
from fusion.fit import FitRows, FitSettings, Target, fit
from fusion.metrics import accuracy, confusion_matrix, weighted_f1
from fusion.opinions import read_opinions
from fusion.systems import SYSTEMS

STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # inverse regularisation
LOG_BOUND = 15.0  # a probability of e^-15 and one of 0 say the same, and the second has no finite logarithm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/corridor_augmented"))
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"))
    parser.add_argument(
        "--predictions", type=Path, default=Path("predictions/board"), help="a folder for each stage, and out_of_fold"
    )
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def stack(rows: FitRows, target: Target, settings: FitSettings) -> dict[str, Ints]:
    """Cross-fitted decisions of the free combination, shape (N,) each: the most probable label, and by the rule."""
    inputs_NF = describe(rows)
    fold_N = assign_folds(rows.keys, rows.labels_N, folds=settings.folds, seed=settings.seed)
    found = {name: np.empty(len(rows.labels_N), dtype=np.int64) for name in ("stacked_argmax", "stacked_rule")}
    for fold in range(settings.folds):
        seen, held_out = fold_N != fold, fold_N == fold
        model = regression(settings.seed).fit(inputs_NF[seen], rows.labels_N[seen])
        # The rule is fitted on the rows that the regression was fitted on, as fusion's is.
        offsets = fit_offsets(model.predict_log_proba(inputs_NF[seen]), rows.labels_N[seen], target.weights_K)
        logps = model.predict_log_proba(inputs_NF[held_out])
        found["stacked_argmax"][held_out] = decide(logps, np.zeros(logps.shape[1]))
        found["stacked_rule"][held_out] = decide(logps, offsets)
    return found


def describe(rows: FitRows) -> Floats:
    """Stage 1's K log-probabilities and each specialist's log-odds, shape (N, K + S); 0 without a second look."""
    odds_SN = rows.looks_SN2[:, :, 0] - rows.looks_SN2[:, :, 1]
    columns = np.hstack([renormalise(rows.base_logps_NK), np.nan_to_num(odds_SN, nan=0.0).T])
    return np.clip(columns, -LOG_BOUND, LOG_BOUND)


def regression(seed: int):
    """The free combination, unfitted."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    return GridSearchCV(model, {"logisticregression__C": STRENGTHS}, scoring="neg_log_loss", cv=folds)


def main() -> None:
    """Fit both, compare."""
    arguments = parse_arguments()
    card = load_task_card(arguments.task)
    stages = {name: arguments.predictions / name for name in card.stages}
    base = stages.pop(card.stages[0])
    opinions = read_opinions(arguments.data, card, base, stages, arguments.predictions / "out_of_fold")
    rows, settings = opinions.fit_rows(), FitSettings()
    fitted = fit(rows, opinions.target, settings)
    decided = {name: fitted.cross_fitted[name] for name in SYSTEMS} | stack(rows, opinions.target, settings)
    K, weights_K = len(card.labels), opinions.target.weights_K
    rng = np.random.default_rng(0)
    answers = list(decided.values())
    drawn = resample_confusions(rows.labels_N, answers, K, resamples=arguments.resamples, rng=rng, group_N=rows.group_N)
    drawn_scores = dict(zip(decided, weighted_f1(drawn, weights_K), strict=True))
    systems, differences = {}, {}
    for name, predicted_N in decided.items():
        confusion = confusion_matrix(rows.labels_N, predicted_N, K)
        systems[name] = {
            "score": float(weighted_f1(confusion, weights_K)),
            "score_interval": interval(drawn_scores[name]),
            "error_rate": float(1 - accuracy(confusion)),
        }
    for way in ("argmax", "rule"):
        fused, stacked = f"fused_{way}", f"stacked_{way}"
        differences[f"{stacked} - {fused}"] = {
            "score": systems[stacked]["score"] - systems[fused]["score"],
            "score_interval": interval(drawn_scores[stacked] - drawn_scores[fused]),
        }
    for name, found in systems.items():
        low, high = found["score_interval"]
        print(f"{name:<16} score {found['score']:.3f} [{low:.3f}, {high:.3f}]  errors {found['error_rate']:.2%}")
    for name, found in differences.items():
        low, high = found["score_interval"]
        print(f"{name}: score {found['score']:+.3f} [{low:+.3f}, {high:+.3f}]")
    result = {"benchmark": "stacking", "rows": len(rows.labels_N), "systems": systems, "differences": differences}
    finish(result, arguments.out)


if __name__ == "__main__":
    main()
