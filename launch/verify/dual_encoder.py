"""A CLIP- or SigLIP-like model as a judge: how well does a photo fit each label's text?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.build_config import BuildConfig
from dataset_builders.errors import ConfigError, DataError, PhotoError
from dataset_builders.manifest import ManifestRow
from dataset_builders.photo import decode_photo
from dataset_builders.progress import track
from launch.predict.fingerprint import model_files

__all__ = ["DualEncoderJudge"]

MAX_PIXELS: int = BuildConfig.model_fields["max_pixels"].default
_LIBRARIES = ("torch", "transformers", "tokenizers", "pillow")
_SIGMOID = "siglip"  # model types that start so give every pair its own probability, and read padded texts


class DualEncoderJudge:
    """Scores photos against texts by ``transformers``' AutoModel: CLIP, Chinese-CLIP, SigLIP, SigLIP 2, their like.

    CLIP (Radford et al. 2021) is trained with a softmax over the texts, so log p is the log-softmax of its logits.
    SigLIP (Zhai et al. 2023) gives each pair of photo and text a probability of its own, sigmoid(scale · cos + bias);
    they are normalised over the labels.
    """

    def __init__(
        self, model: str, texts: Mapping[str, str], *, device: str = "cpu", dtype: str = "auto", batch_size: int = 32
    ) -> None:
        """Nothing is loaded yet.

        Args:
            model: Directory, which is read without a network, or hub name.
            texts: Label id → text, in the card's order.
            device: ``cpu`` or ``cuda``.
            dtype: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is the checkpoint's on a GPU, float32 on a CPU.
            batch_size: Photos in a forward pass, >= 1.
        """
        self._model, self._texts = model, dict(texts)
        self._device, self._dtype, self._batch_size = device, dtype, batch_size

    @property
    def identity(self) -> dict[str, Any]:
        """The name, hashes of the model's files, the texts and what else decides the numbers.

        Raises:
            ConfigError: The directory holds no model.
        """
        return {
            "by": "dual_encoder",
            "model": Path(self._model).name,
            "model_files": model_files(self._model),
            "texts": self._texts,
            "device": self._device,
            "dtype": self._dtype,
            "batch_size": self._batch_size,
            "versions": {name: version(name) for name in _LIBRARIES},
        }

    def log_probabilities(self, dataset_dir: Path, rows: Sequence[ManifestRow]) -> dict[str, NDArray[np.float64]]:
        """As ``Judge.log_probabilities``.

        Raises:
            ConfigError: The model cannot be loaded or is no dual encoder.
            DataError: A photo cannot be read.
        """
        import torch

        model, processor = self._load()
        sigmoid = model.config.model_type.startswith(_SIGMOID)
        texts = self._encode_texts(processor.tokenizer, model.config, sigmoid)
        dtype = next(model.parameters()).dtype
        found: dict[str, NDArray[np.float64]] = {}
        starts = range(0, len(rows), self._batch_size)
        for start in track(starts, total=len(starts), title="verify: batches"):
            batch = rows[start : start + self._batch_size]
            photos = [_read_photo(dataset_dir / row.image, row) for row in batch]
            vision = processor.image_processor(images=photos, return_tensors="pt")
            inputs = {
                name: value.to(self._device, dtype) if value.is_floating_point() else value.to(self._device)
                for name, value in {**texts, **vision}.items()
            }
            with torch.inference_mode():
                logits_BK = model(**inputs).logits_per_image.double()
            scores_BK = torch.nn.functional.logsigmoid(logits_BK) if sigmoid else logits_BK
            logp_BK = scores_BK.log_softmax(-1).cpu().numpy()
            found |= {row.sample_id: logp_K for row, logp_K in zip(batch, logp_BK, strict=True)}
        return found

    def _load(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModel, AutoProcessor

        auto = "auto" if self._device == "cuda" else torch.float32
        dtype = auto if self._dtype == "auto" else getattr(torch, self._dtype)
        local = {"local_files_only": Path(self._model).is_dir()}
        try:
            model = AutoModel.from_pretrained(self._model, dtype=dtype, **local)
            processor = AutoProcessor.from_pretrained(self._model, **local)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot load the dual encoder {self._model!r}: {error}") from error
        parts = hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")
        if not parts or not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
            raise ConfigError(
                f"{self._model}: {type(model).__name__} is no dual encoder of photos and texts; give --model one like "
                "CLIP, Chinese-CLIP, SigLIP or SigLIP 2, with its processor"
            )
        return model.to(self._device).eval(), processor

    def _encode_texts(self, tokenizer: Any, config: Any, sigmoid: bool) -> dict[str, Any]:
        """Token tensors of the texts; names on stderr whose end is cut off."""
        length = int(min(config.text_config.max_position_embeddings, tokenizer.model_max_length))
        for label_id, text in self._texts.items():
            if (count := len(tokenizer(text, verbose=False)["input_ids"])) > length:
                print(
                    f"riskfuse verify: the text of label {label_id!r} has {count} tokens, the model reads the first "
                    f"{length}; give shorter texts with --texts",
                    file=sys.stderr,
                )
        # SigLIP learnt from texts that are padded to the full length, without a mask.
        encoded = tokenizer(
            list(self._texts.values()),
            padding="max_length" if sigmoid else True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        return {"input_ids": encoded["input_ids"]} if sigmoid else dict(encoded)


def _read_photo(path: Path, row: ManifestRow) -> Any:
    try:
        return decode_photo(path.read_bytes(), max_pixels=MAX_PIXELS).image
    except (OSError, PhotoError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}), so {row.sample_id!r} has no score; augment again"
        ) from error
