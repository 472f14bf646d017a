"""Later photos by a fusion that was fitted before: nothing is fitted anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError, DataError, FingerprintMismatch
from dataset_builders.files import content_hash
from dataset_builders.task_card import BASE, TaskCard
from fusion.answer import SCORE_NAME, FuseResult, answer
from fusion.fit import FitSettings
from fusion.fusion_model import MODEL_NAME, FusionModel, load_fusion_model
from fusion.opinions import MadeBy, read_test_photos

__all__ = ["apply_fusion"]

# Parts of a fingerprint by which the same model gives nearly the same numbers; all others say that it is another model
# or question. How near is for `riskfuse parity` to say: a new version of a library may resize photos in another way.
ROUNDINGS = frozenset({"versions", "computation", "threads", "batch_size", "shard_size", "device"})


def apply_fusion(
    dataset_dir: str | Path,
    card: TaskCard,
    base_dir: str | Path,
    specialist_dirs: Mapping[str, str | Path],
    fitted_dir: str | Path,
    out: str | Path,
    *,
    submit_source: str | None = None,
    resamples: int = 2000,
) -> FuseResult:
    """Decide for the test photos of a data set by an earlier fusion and write a fusion directory.

    Args:
        dataset_dir: Data set directory with its manifest; its test photos are decided about.
        card: The task.
        base_dir: Predictions of the base model that the fusion was fitted on.
        specialist_dirs: Predictions of the specialists that it was fitted on, by name.
        fitted_dir: Fusion directory that ``fuse`` wrote.
        out: Fusion directory that is written, of the same form.
        submit_source: As in ``fuse``.
        resamples: Bootstrap resamples of intervals, where photos have labels.

    Raises:
        DataError: A file is missing or damaged, or predictions are incomplete or belong to another data set.
        ConfigError: The fusion is of another task card or of other specialists, or would be written over itself.
        FingerprintMismatch: Predictions are not by the models that the fusion was fitted on.
    """
    fitted_dir, out = Path(fitted_dir), Path(out)
    if out.resolve() == fitted_dir.resolve():
        raise ConfigError(f"{out}: holds the fitted fusion; write the answers to another directory")
    model = load_fusion_model(fitted_dir / MODEL_NAME)
    _check_task(model, card, fitted_dir)
    test, made_by, notes = read_test_photos(dataset_dir, card, base_dir, specialist_dirs)
    notes += _check_models(model, made_by, fitted_dir)
    return answer(
        card,
        model,
        _validation(fitted_dir / SCORE_NAME),
        test,
        out,
        submit_source=submit_source,
        settings=FitSettings(resamples=resamples, seed=model.fitted_on.seed),
        with_fit=False,
        notes=(f"by the fusion in {fitted_dir}; nothing was fitted on these photos", *notes),
    )


def _check_task(model: FusionModel, card: TaskCard, fitted_dir: Path) -> None:
    if model.fitted_on.task_hash != content_hash(card.model_dump(mode="json")):
        raise ConfigError(
            f"{fitted_dir / MODEL_NAME}: fitted with another content of the task card (task {model.task!r}, labels "
            f"{', '.join(model.labels)}); give the card of that time, or run the pipeline again"
        )


def _check_models(model: FusionModel, made_by: Mapping[str, MadeBy], fitted_dir: Path) -> list[str]:
    """Refuse other models than those of the fit; a note for each stage that was only computed in another way."""
    fitted = model.fitted_on
    expected = {BASE: fitted.base_fingerprint} | {name: look.fingerprint for name, look in fitted.second_looks.items()}
    path = fitted_dir / MODEL_NAME
    if expected.keys() != made_by.keys():
        raise ConfigError(f"{path}: fitted on {', '.join(expected)}, got predictions of {', '.join(made_by)}")
    others = {name: made_by[name].components for name in expected if made_by[name].fingerprint != expected[name]}
    notes = []
    for name, now in others.items():
        then = fitted.components.get(name)
        if not then or not now:
            raise FingerprintMismatch(
                f"{path}: fitted on other predictions of {name} than these, and does not say by which model; fuse "
                "again (riskfuse run PIPELINE --from fuse --redo), then it does"
            )
        differ = {key for key in then.keys() | now.keys() if then.get(key) != now.get(key)}
        if differ - ROUNDINGS:
            raise FingerprintMismatch(
                f"{path}: fitted on predictions of {name} that differ from these in "
                f"{', '.join(sorted(differ - ROUNDINGS))}; predict by the model of the fit, or run the pipeline again"
            )
        changed = ", ".join(sorted(differ))
        notes.append(
            f"{name} was computed with another {changed} than in the fit; `riskfuse parity` says what it changes"
        )
    return notes


def _validation(path: Path) -> dict[str, Any]:
    """The scores on the rows of the fit."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["validation"]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; it lies beside {MODEL_NAME} where `riskfuse fuse` wrote it") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not what `riskfuse fuse` wrote; fuse again") from None
