"""What a prediction run needs to know: flags of the command, checked in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dataset_builders.stores import Location, StorePath, location
from launch.predict.views import Views

__all__ = ["BARE_BASE", "PredictConfig"]

Place = Annotated[Location, BeforeValidator(location)]
BARE_BASE = "none"  # value of `adapter` that asks for the base model without an adapter


class PredictConfig(BaseModel):
    """One prediction run. ``out``, ``data``, ``images`` and ``photo_list`` are paths, or URIs that fsspec knows.

    Attributes:
        recipe: Training recipe; model, template, pixel budget and default adapter come from it.
        task: Task card.
        stage: Stage of the card whose prompt and answers are used.
        out: Predictions directory.
        data: Data set directory; its manifest lists the photos. Excludes ``images`` and ``photo_list``.
        splits: Splits of the manifest to predict, in this order.
        folds: Only rows of these folds of the manifest; all rows when None.
        images: Bare photo directory, with ``photo_list``.
        photo_list: UTF-8 text, one file name a line (what follows a tab is ignored).
        adapter: Adapter directory; the recipe's ``output_dir`` when None; ``"none"`` for the bare base.
        merged: Directory of a merged model, used in place of base and adapter.
        engine: ``ray`` for actors over shards, ``local`` for a loop in this process.
        workers: Ray actors, >= 1; the local engine always is one.
        address: Ray cluster to join; a private one is started when None.
        batch_size: Photos in a forward pass, >= 1.
        views: ``none`` scores the photo as it is; ``flip`` its mirror image too, and averages the probabilities.
        shard_size: Photos in a part file, >= 1.
        threads: CPU threads of each worker, >= 1. Fixed, so that numerics do not depend on the machine's cores.
        device: Where the model runs; ``auto`` takes a GPU when there is one.
        dtype: Number type of the weights; ``auto`` is the checkpoint's own on a GPU and float32 on a CPU.
        metrics: File for Prometheus that says how far the run is; none is written when None.
        overwrite: Remove what another configuration left in ``out``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: Path
    task: Path
    stage: str
    out: Place
    data: Place | None = None
    splits: tuple[str, ...] = ("val", "test")
    folds: tuple[int, ...] | None = None
    images: Place | None = None
    photo_list: Place | None = None
    adapter: str | None = None
    merged: Path | None = None
    engine: Literal["ray", "local"] = "ray"
    workers: Annotated[int, Field(ge=1)] = 1
    address: str | None = None
    batch_size: Annotated[int, Field(ge=1)] = 16
    views: Views = "none"
    shard_size: Annotated[int, Field(ge=1)] = 128
    threads: Annotated[int, Field(ge=1)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    metrics: Path | None = None
    overwrite: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> PredictConfig:
        if (self.data is None) == (self.images is None):
            raise ValueError("give either data (a data set directory) or images with a list, not both and not none")
        if (self.images is None) != (self.photo_list is None):
            raise ValueError("images (a directory) and list (its file names) go together")
        if self.data is not None and not self.splits:
            raise ValueError("splits is empty; name at least one of train, val, test")
        if self.folds is not None and (self.data is None or not self.folds):
            raise ValueError("folds names at least one fold of a data set (data); a list of photos has none")
        if isinstance(self.out, StorePath) and self.out.uri.startswith(("http://", "https://")):
            raise ValueError(f"out: nothing can be written to {self.out}; name a directory or an object store")
        if self.merged is not None and self.adapter is not None:
            raise ValueError("adapter and merged exclude each other: a merged model already holds its adapter")
        return self
