"""From probabilities to labels: plain argmax, or class offsets that maximise the weighted F1.

F1 is no average over rows, so the most probable class is not the answer that maximises it; the optimum is a
re-weighted argmax with weights that depend on the data (Ye et al., Optimizing F-measure, ICML 2012; Koyejo et al.,
Consistent binary classification with generalized performance metrics, NIPS 2014; Narasimhan et al., Consistent
multiclass algorithms for complex performance measures, ICML 2015; Lipton et al., Optimal thresholding of classifiers
to maximize F1, ECML 2014). Offsets on log-probabilities are the logarithms of those class multipliers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.metrics import confusion_matrix, weighted_f1

__all__ = ["OFFSET_GRID", "decide", "fit_offsets"]

# Multipliers from 1/20 to 20. A coarse grid on purpose: finer steps fit the validation rows, not the task.
OFFSET_GRID = tuple(float(x) for x in np.linspace(-3.0, 3.0, 25))
MAX_PASSES = 10
MIN_GAIN = 1e-9  # a smaller gain is rounding

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def decide(logps_NK: Floats, offsets_K: Floats | tuple[float, ...]) -> Ints:
    """The class with the largest log-probability + offset; ties go to the first class (the most dangerous).

    Args:
        logps_NK: Natural log-probabilities, no NaN.
        offsets_K: Natural logs of the class multipliers; zeros are plain argmax.
    """
    return (logps_NK + np.asarray(offsets_K)).argmax(axis=1).astype(np.int64)


def fit_offsets(
    logps_NK: Floats, labels_N: Ints, weights_K: Floats, grid: tuple[float, ...] = OFFSET_GRID
) -> tuple[float, ...]:
    """Offsets that maximise the weighted F1 on labelled rows, by coordinate ascent from plain argmax.

    Only strict gains are taken, so the result is never worse than argmax on these rows; a class without any row
    keeps offset 0, because nothing is known about it. Of equal gains the smallest offset wins.

    Args:
        logps_NK: Natural log-probabilities, no NaN.
        labels_N: True class indices.
        weights_K: Weight of every class's F1.
        grid: Offsets that are tried for each class.

    Returns:
        One offset a class.
    """
    classes = logps_NK.shape[1]
    present = [k for k in range(classes) if np.any(labels_N == k)]
    offsets = np.zeros(classes)

    def score(candidate: Floats) -> float:
        predicted = decide(logps_NK, candidate)
        return float(weighted_f1(confusion_matrix(labels_N, predicted, classes), weights_K))

    best = score(offsets)
    for _ in range(MAX_PASSES):
        before = best
        for k in present:
            for value in sorted(grid, key=lambda x: (abs(x), x)):
                candidate = offsets.copy()
                candidate[k] = value
                gained = score(candidate)
                if gained > best + MIN_GAIN:
                    best, offsets = gained, candidate
        if best <= before:
            break
    return tuple(float(x) for x in offsets)
