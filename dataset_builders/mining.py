"""Reads from predictions how probable a specialist's targets are for each photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataset_builders.log_probabilities import read_log_probabilities
from dataset_builders.manifest import ManifestRow
from dataset_builders.stores import Location
from dataset_builders.task_card import Specialist, TaskCard

__all__ = ["read_target_probabilities"]


def read_target_probabilities(
    predictions_dirs: Sequence[str | Location], card: TaskCard, specialist: Specialist, rows: Sequence[ManifestRow]
) -> tuple[dict[str, float], dict[str, str]]:
    """Probability that a photo has one of the specialist's target labels, as the base stage sees it.

    Args:
        predictions_dirs: Complete predictions directories; no photo may be in two of them.
        card: The task card.
        specialist: One of its specialists.
        rows: All of the manifest.

    Returns:
        Sample id → probability in [0, 1] among the card's answers, without failed rows; and the hash of every file
        that was read, by directory number and file name, so that it does not depend on where the directories lie.

    Raises:
        DataError: A directory is no complete set of predictions of the base stage, a photo is in two of them, or
            the rows have other pictures of the same names.
    """
    found = read_log_probabilities(predictions_dirs, card)
    found.check_photos(rows)
    targets = [card.label_ids.index(target) for target in specialist.targets]
    probabilities = {sample_id: float(np.exp(logp_K[targets]).sum()) for sample_id, logp_K in found.logp_K_of.items()}
    return probabilities, found.hashes
