"""What a prediction run needs to know: flags of the command, checked in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dataset_builders.stores import Location, StorePath, location
from launch.predict.endpoint.job import Reading
from launch.predict.views import Views

__all__ = ["BARE_BASE", "Engine", "PredictConfig"]

Engine = Literal["ray", "local", "endpoint", "vllm"]

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
        sample: So many photos, evenly spread over the list; all when None.
        engine: ``ray`` for actors over shards, ``local`` for a loop in this process, ``endpoint`` for an
            OpenAI-compatible server that is there, ``vllm`` for one that is started. When None: ``endpoint`` if there
            is an ``endpoint``, ``ray`` otherwise.
        workers: Ray actors, >= 1; the local engine always is one.
        address: Ray cluster to join; a private one is started when None.
        batch_size: Photos in a forward pass, >= 1.
        views: ``none`` scores the photo as it is; ``flip`` its mirror image too, and averages the probabilities.
        shard_size: Photos in a part file, >= 1.
        threads: CPU threads of each worker, >= 1. Fixed, so that numerics do not depend on the machine's cores.
        device: Where the model runs; ``auto`` takes a GPU when there is one.
        dtype: Number type of the weights; ``auto`` is the checkpoint's own on a GPU and float32 on a CPU.
        endpoint: Base address of the server, such as ``http://127.0.0.1:8000/v1``.
        endpoint_model: The model's name there.
        api_key_env: Environment variable that holds the endpoint's key; no key is sent when None.
        plain_http: Photos may go to another machine unencrypted.
        reading: How answers are read from an endpoint's log-probabilities, see ``launch.predict.endpoint.readings``.
            When None: ``whole`` for ``vllm``, ``first-token`` for ``endpoint``.
        top_logprobs: Log-probabilities that ``first-token`` asks for, 1 to 20.
        in_flight: Photos that an endpoint or vLLM is asked about at the same time, >= 1.
        vllm_python: Python of the environment that vLLM is installed in.
        vllm_args: More options of vLLM's server, as in a shell.
        vllm_wait_s: Seconds that vLLM may take to load the model, > 0.
        metrics: File for Prometheus that says how far the run is; none is written when None.
        overwrite: Remove what another configuration or list left in ``out``; parts of this one are kept.
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
    sample: Annotated[int | None, Field(ge=1)] = None
    engine: Engine = "ray"
    workers: Annotated[int, Field(ge=1)] = 1
    address: str | None = None
    batch_size: Annotated[int, Field(ge=1)] = 16
    views: Views = "none"
    shard_size: Annotated[int, Field(ge=1)] = 128
    threads: Annotated[int, Field(ge=1)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    endpoint: str | None = None
    endpoint_model: str | None = None
    api_key_env: str | None = None
    plain_http: bool = False
    reading: Reading = "first-token"
    top_logprobs: Annotated[int, Field(ge=1, le=20)] = 20
    in_flight: Annotated[int, Field(ge=1)] = 16
    vllm_python: Path | None = None
    vllm_args: str = ""
    vllm_wait_s: Annotated[float, Field(gt=0)] = 900.0
    metrics: Path | None = None
    overwrite: bool = False

    @model_validator(mode="before")
    @classmethod
    def _chosen_by_others(cls, values: Any) -> Any:
        """Fill in what follows from other fields where it is None."""
        if not isinstance(values, dict):
            return values
        found = dict(values)
        if found.get("engine") is None:
            found["engine"] = "ray" if found.get("endpoint") is None else "endpoint"
        if found.get("reading") is None:
            found["reading"] = "whole" if found["engine"] == "vllm" else "first-token"
        return found

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

    @model_validator(mode="after")
    def _one_engine(self) -> PredictConfig:
        if (self.engine == "endpoint") != (self.endpoint is not None and self.endpoint_model is not None):
            raise ValueError("engine endpoint, endpoint (an address) and endpoint_model (a name) go together")
        if (self.engine == "vllm") != (self.vllm_python is not None):
            raise ValueError("engine vllm and vllm_python (a Python that has vLLM) go together")
        if self.endpoint is None and (self.endpoint_model or self.api_key_env or self.plain_http):
            raise ValueError("endpoint_model, api_key_env and plain_http say something about an endpoint; name one")
        if self.engine == "endpoint" and (self.adapter or self.merged or (self.device, self.dtype) != ("auto", "auto")):
            raise ValueError("adapter, merged, device and dtype say nothing to an endpoint: it has loaded its model")
        if self.engine in ("endpoint", "vllm") and (self.workers != 1 or self.address is not None):
            raise ValueError(f"workers and address are for engine ray; engine {self.engine} takes in_flight")
        return self
