"""Draws an explanation: the photo, how strongly its tokens are amplified, and where each query looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dataset_builders.files import atomic_path
from launch.amplifier.explanation import Explanation

__all__ = ["draw_heat_map"]

PANEL_INCHES, DPI = 2.6, 110
COLOURS, OPACITY = "inferno", 0.6
# Fonts of the common systems that have Chinese characters; matplotlib's own has none.
CHINESE = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
)


def draw_heat_map(path: Path, photo: Any, explanation: Explanation, title: str) -> None:
    """Write a PNG with one panel for the photo, one for the relevance and one for each query's attention.

    Relevance is drawn on a scale from 0 to 1, the strongest query a token. An attention sums to one over the photo, so
    it is drawn on a scale of its own, whose upper end its title names.

    Args:
        path: File to write.
        photo: RGB PIL image.
        explanation: What the amplifier saw in it.
        title: First line over the panels; the answers' probabilities follow.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    relevance_HW = explanation.relevance_HWK.max(-1)
    maps = [(f"relevance, at most {relevance_HW.max():.2f}", relevance_HW, 1.0)]
    for query in range(explanation.attention_HWK.shape[-1]):
        attention_HW = explanation.attention_HWK[..., query]
        maps.append((f"query {query + 1}, 0 to {attention_HW.max():.2f}", attention_HW, float(attention_HW.max())))
    tall = np.clip(photo.height / photo.width, 0.4, 2.0)
    figure = Figure(figsize=(PANEL_INCHES * (1 + len(maps)), PANEL_INCHES * tall + 0.8), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 1 + len(maps))
    answers = ", ".join(f"p({name}) = {p:.3f}" for name, p in explanation.probabilities.items())
    # A photo's name is text, whatever it holds: two dollar signs are no formula.
    figure.suptitle(f"{title}\n{answers}", fontsize=9, parse_math=False, fontfamily=_families())
    panels[0].set_title("photo", fontsize=8)
    for panel in panels:
        panel.imshow(photo)
        panel.set_axis_off()
    extent = (-0.5, photo.width - 0.5, photo.height - 0.5, -0.5)
    for panel, (name, map_HW, top) in zip(panels[1:], maps, strict=True):
        panel.set_title(name, fontsize=8)
        panel.imshow(map_HW, extent=extent, cmap=COLOURS, alpha=OPACITY, vmin=0, vmax=top, interpolation="nearest")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _families() -> list[str]:
    """Fonts for names of any script, the first that has a character draws it."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in CHINESE if name in installed)]
