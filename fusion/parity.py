"""Do two predictions directories say the same? Top answers and probabilities, photo by photo."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.errors import DataError
from dataset_builders.stores import Location, location
from fusion.calibration import renormalise
from fusion.predictions import MARKER_NAME, read_predictions
from fusion.score_table import align

__all__ = ["Parity", "ParityBounds", "format_parity", "measure_parity", "probability_differences"]


@dataclass(frozen=True)
class ParityBounds:
    """What two engines may differ by.

    Attributes:
        max_difference: Largest difference of a probability on any photo, 0 to 1.
        min_agreement: Least share of the photos with the same most probable answer, 0 to 1.
    """

    max_difference: float
    min_agreement: float


@dataclass(frozen=True)
class Parity:
    """How far two directories are from each other, over the photos that both have and neither failed on.

    Probabilities are over the answers of the stage alone, as fusion takes them.

    Attributes:
        photos: Number of compared photos.
        only_first: Photos that only the first directory has; a sample is no fault.
        only_second: Photos that only the second directory has.
        failed_in_both: Photos that both failed on.
        failed_in_one: Photos that one failed on and the other did not; never within bounds.
        agreement: Share of the photos with the same most probable answer.
        max_difference: Largest |Δp| of any answer on any photo.
        mean_difference: Mean |Δp| over photos and answers.
        max_off_label_difference: Largest |Δ| of the probability that the reply is no answer at all.
        worst: Sample id of the photo with the largest |Δp|.
        disagreements: Sample ids of the photos with another most probable answer.
    """

    photos: int
    only_first: int
    only_second: int
    failed_in_both: int
    failed_in_one: int
    agreement: float
    max_difference: float
    mean_difference: float
    max_off_label_difference: float
    worst: str
    disagreements: tuple[str, ...]

    def within(self, bounds: ParityBounds) -> bool:
        """Whether nothing is over the bounds, and no photo failed in one directory alone."""
        return (
            not self.failed_in_one
            and self.max_difference <= bounds.max_difference
            and self.agreement >= bounds.min_agreement
        )

    def as_json(self, bounds: ParityBounds) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {"within_bounds": self.within(bounds), **asdict(self), "bounds": asdict(bounds)}


def measure_parity(first: str | Location, second: str | Location) -> Parity:
    """Compare two finished predictions directories of one stage by their sample ids.

    Raises:
        DataError: A directory is not finished, they are of different stages or have different answers, or no photo in
            common that both could score.
    """
    stage, answers = _stage_and_answers(location(first))
    if (others := _stage_and_answers(location(second))[1]) != answers:
        raise DataError(
            f"{first} has the answers {', '.join(answers)}, {second} has {', '.join(others)}; compare predictions of "
            "one stage of one task card"
        )
    a, b = read_predictions(first, answers), read_predictions(second, answers, stage=stage)
    positions = b.positions(a.sample_ids)
    rows_a, rows_b = np.flatnonzero(positions >= 0), positions[positions >= 0]
    failed_a, failed_b = a.failed_N[rows_a], b.failed_N[rows_b]
    both = ~failed_a & ~failed_b
    if not both.any():
        raise DataError(f"{first} and {second}: no photo in common that both could score; predict the same list")
    logps_a, logps_b = a.logps_NK[rows_a[both]], b.logps_NK[rows_b[both]]
    differences_NK = probability_differences(logps_a, logps_b)
    same_N = logps_a.argmax(axis=1) == logps_b.argmax(axis=1)
    sample_ids = a.sample_ids.take(rows_a[both])
    off_label = np.abs(np.exp(logps_a).sum(axis=1).clip(0, 1) - np.exp(logps_b).sum(axis=1).clip(0, 1))
    return Parity(
        photos=int(both.sum()),
        only_first=len(a) - len(rows_a),
        only_second=len(b) - len(rows_b),
        failed_in_both=int((failed_a & failed_b).sum()),
        failed_in_one=int((failed_a ^ failed_b).sum()),
        agreement=float(same_N.mean()),
        max_difference=float(differences_NK.max()),
        mean_difference=float(differences_NK.mean()),
        max_off_label_difference=float(off_label.max()),
        worst=sample_ids[int(differences_NK.max(axis=1).argmax())].as_py(),
        disagreements=tuple(sample_ids.take(np.flatnonzero(~same_N)).to_pylist()),
    )


def probability_differences(first_NK: NDArray[np.float64], second_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """|Δp| of each answer on each photo, shape (N, K), over the answers alone; arguments are log-probabilities."""
    return np.abs(np.exp(renormalise(first_NK)) - np.exp(renormalise(second_NK)))


def format_parity(parity: Parity, bounds: ParityBounds) -> str:
    """The measures as a table, each beside its bound."""
    rows = [
        ("photos compared", f"{parity.photos}", ""),
        ("failed in one alone", f"{parity.failed_in_one}", "at most 0"),
        ("same top answer", f"{parity.agreement:.4f}", f"at least {bounds.min_agreement:g}"),
        ("largest |Δp|", f"{parity.max_difference:.2e}", f"at most {bounds.max_difference:g}"),
        ("mean |Δp|", f"{parity.mean_difference:.2e}", ""),
        ("largest |Δ off-label|", f"{parity.max_off_label_difference:.2e}", ""),
    ]
    return f"{align(rows, left=1)}\nlargest |Δp| on {parity.worst}"


def _stage_and_answers(directory: Location) -> tuple[str | None, tuple[str, ...]]:
    """Stage and answers that the completion marker names, in the order of the columns."""
    try:
        marker = json.loads((directory / MARKER_NAME).read_text(encoding="utf-8"))
        return marker.get("stage"), tuple(marker["answers"])
    except FileNotFoundError:
        raise DataError(
            f"{directory / MARKER_NAME}: no such file, so the predictions are not complete; run `riskfuse predict` to "
            "its end"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{directory / MARKER_NAME}: names no answers ({error}); predict again") from error
