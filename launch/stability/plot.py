"""The picture of a stability analysis: drift, change of the probabilities, and score, one bar or mark a variation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataset_builders.files import atomic_path

__all__ = ["plot_variations"]

DRIFT_TO_BEAT = 3.0  # percent of flips between batches, the figure that the first version of this system reported
NO_CHANGE = 1e-9  # drawn where probabilities did not change, for a logarithmic axis has no 0
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#9c755f")


def plot_variations(figures: Mapping[str, Any], path: Path) -> None:
    """Draw all variations beside each other and write a PNG, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    reference, *others = figures["variations"]
    scored = "score" in reference
    kinds = list(dict.fromkeys(item["kind"] for item in others))
    colours = [COLOURS[kinds.index(item["kind"]) % len(COLOURS)] for item in others]
    places = range(len(others))
    figure = Figure(figsize=(11, 1.4 + 0.36 * max(len(others), 3)), layout="constrained")
    axes = figure.subplots(1, 3 if scored else 2, sharey=True)
    axes[0].barh(places, [100 * item["drift"] for item in others], color=colours)
    axes[0].axvline(DRIFT_TO_BEAT, color="black", linestyle=":", linewidth=1)
    axes[0].set_xlabel("label flips, % of photos (dotted: 3 %)")
    axes[0].set_yticks(places, [item["name"] for item in others])
    axes[0].set_ylim(len(others) - 0.4, -0.6)
    for key, marker in (("mean_change", "o"), ("max_change", ">")):
        values = [max(item[key], NO_CHANGE) for item in others]
        axes[1].scatter(values, places, c=colours, marker=marker, label=key.replace("_change", ""))
    axes[1].set_xscale("log")
    axes[1].set_xlim(NO_CHANGE / 2, 2)
    axes[1].set_xlabel("change of a probability")
    axes[1].legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    axes[1].grid(axis="x", alpha=0.3)
    if scored:
        # A percentile interval of few photos need not hold the score itself.
        low = [max(0.0, item["score"] - item["score_interval"][0]) for item in others]
        high = [max(0.0, item["score_interval"][1] - item["score"]) for item in others]
        scores = [item["score"] for item in others]
        axes[2].errorbar(scores, places, xerr=[low, high], fmt="none", ecolor="grey", elinewidth=1, capsize=2)
        axes[2].scatter(scores, places, c=colours, zorder=3)
        axes[2].axvline(reference["score"], color="black", linewidth=1)
        axes[2].set_xlabel("score, 95 % interval (line: reference)")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"stage {figures['stage']}, {figures['photos']} photos, against the reference", fontsize=11)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)
