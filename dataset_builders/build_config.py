"""The YAML of ``riskfuse build``: which lists and photos become which data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator

from dataset_builders.config_file import FrozenModel, read_config
from dataset_builders.errors import ConfigError

__all__ = [
    "BuildConfig",
    "Columns",
    "HfColumns",
    "HfDatasetSource",
    "ImageFolderSource",
    "LabelListSource",
    "LabelStudioSource",
    "NearDuplicates",
    "Source",
    "TableSource",
    "load_build_config",
]

SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Role = Literal["train", "test"]


class LabelListSource(FrozenModel):
    """A text file with ``name<TAB>label`` rows, or with names only, beside a directory of photos.

    Attributes:
        name: Names the source in sample ids and below ``images/``; unique in the config.
        role: ``train`` photos are split into folds; ``test`` photos stay together, labelled or not.
        path: The text file.
        images: Directory that the names are relative to.
        encoding: Python's name of an encoding; ``auto`` knows UTF-8 with and without BOM, UTF-16 with BOM and GB18030
            (which contains GBK and GB2312).
    """

    kind: Literal["label_list"]
    name: SourceName
    role: Role
    path: Path
    images: Path
    encoding: str = "auto"


class ImageFolderSource(FrozenModel):
    """A directory of photos: one sub-directory a class, named by label text, alias or id; or flat and unlabelled.

    Attributes:
        name: As in ``LabelListSource``.
        role: As in ``LabelListSource``.
        path: The directory.
    """

    kind: Literal["image_folder"]
    name: SourceName
    role: Role
    path: Path


class Columns(FrozenModel):
    """Names of a table's columns; ``label: null`` means that the table is unlabelled."""

    name: str = "name"
    label: str | None = "label"


class TableSource(FrozenModel):
    """A CSV, JSON-lines or Parquet table, told apart by its suffix, beside a directory of photos.

    Attributes:
        name: As in ``LabelListSource``.
        role: As in ``LabelListSource``.
        path: The table: ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``.
        images: Directory that the names are relative to.
        columns: Which columns hold name and label.
        encoding: As in ``LabelListSource``; not used for Parquet.
    """

    kind: Literal["table"]
    name: SourceName
    role: Role
    path: Path
    images: Path
    columns: Columns = Columns()
    encoding: str = "auto"


class HfColumns(FrozenModel):
    """Names of a Hugging Face data set's columns; ``label: null`` means that it is unlabelled."""

    image: str = "image"
    label: str | None = "label"


class HfDatasetSource(FrozenModel):
    """A directory that ``datasets`` can read: made by ``save_to_disk``, Parquet files, or an image folder.

    Attributes:
        name: As in ``LabelListSource``.
        role: As in ``LabelListSource``.
        path: The directory.
        images: Directory that the photos are written to, as the data set holds them; it belongs to this source alone
            and lies outside ``path``.
        split: Which split; may be left out when there is only one.
        columns: Which columns hold photo and label.
    """

    kind: Literal["hf_dataset"]
    name: SourceName
    role: Role
    path: Path
    images: Path
    split: str | None = None
    columns: HfColumns = HfColumns()


class LabelStudioSource(FrozenModel):
    """An export of Label Studio, JSON or JSON-MIN, beside a directory of photos.

    Attributes:
        name: As in ``LabelListSource``.
        role: As in ``LabelListSource``.
        path: The exported ``.json``.
        images: Directory of the photos: Label Studio's document root, upload directory, or a copy of the bucket.
        image: Key of the photo in a task's ``data``.
        choice: Name of the ``<Choices>`` control; needed for JSON-MIN, and when there are several controls.
        disagreement: What happens to a task whose annotators do not agree: ``error`` lists it, ``majority`` takes the
            choice of more than half of them, ``drop`` leaves the task out and lists it on stderr.
    """

    kind: Literal["label_studio"]
    name: SourceName
    role: Role
    path: Path
    images: Path
    image: str = "image"
    choice: str | None = None
    disagreement: Literal["error", "majority", "drop"] = "error"


Source = Annotated[
    LabelListSource | ImageFolderSource | TableSource | HfDatasetSource | LabelStudioSource,
    Field(discriminator="kind"),
]


class NearDuplicates(FrozenModel):
    """How photos that show the same thing are found.

    Attributes:
        enabled: False groups only photos with equal bytes.
        hash_size: Side of the perceptual hash (pHash); the hash has ``hash_size²`` bits.
        hamming: Photos whose hashes differ in at most so many bits are near-duplicates. On rendered corridors,
            48 of 256 bits found 101 of 112 planted second shots and joined no two different scenes (which differ in
            at least 66 bits, median 126, over 731,445 pairs); a hash of 64 bits cannot separate them.
    """

    enabled: bool = True
    hash_size: Annotated[int, Field(ge=8, le=32, multiple_of=8)] = 16
    hamming: Annotated[int, Field(ge=0)] = 48

    @model_validator(mode="after")
    def _below_chance(self) -> NearDuplicates:
        bits = self.hash_size**2
        if self.hamming > bits // 4:
            raise ValueError(
                f"hamming is {self.hamming} of {bits} bits; unrelated photos differ in about half of them: "
                f"choose at most {bits // 4}"
            )
        return self


class BuildConfig(FrozenModel):
    """A data set.

    Attributes:
        task: The task card.
        out: Data set directory that is written.
        seed: Decides the folds and which photos are repeated once more than others.
        folds: Number of stratified, grouped folds.
        val_fold: The fold whose photos become the split ``val``.
        balance: Oversampling by repetition: wanted rows in ``train.json`` of every class, or of the classes named by
            label id. Larger classes stay whole; nothing is thrown away.
        near_duplicates: How photos that belong together are found.
        test_leak: What happens to training photos that are near-duplicates of a test photo.
        max_pixels: Photos with more pixels in their header are quarantined before they are decoded.
        workers: Processes; the number changes no byte of the result.
        sources: Lists, directories and tables, in the order of the manifest.
    """

    task: Path
    out: Path
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    val_fold: Annotated[int, Field(ge=0)] = 0
    balance: PositiveInt | dict[str, PositiveInt] | None = None
    near_duplicates: NearDuplicates = NearDuplicates()
    test_leak: Literal["quarantine", "error"] = "quarantine"
    max_pixels: PositiveInt = 100_000_000
    workers: Annotated[int, Field(ge=1, le=1024)] = 2
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> BuildConfig:
        if self.val_fold >= self.folds:
            raise ValueError(f"val_fold is {self.val_fold}, but folds is {self.folds}: choose 0 to {self.folds - 1}")
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"source name used twice: {', '.join(twice)}; sample ids start with it, so make it unique")
        out = self.out.resolve()
        for source in self.sources:
            inputs = [source.path] if isinstance(source, ImageFolderSource) else [source.path, source.images]
            for path in inputs:
                if path.resolve().is_relative_to(out):
                    raise ValueError(f"source {source.name!r}: {path} lies in out ({self.out}), which a build clears")
            if isinstance(source, ImageFolderSource) and out.is_relative_to(source.path.resolve()):
                raise ValueError(f"source {source.name!r}: out ({self.out}) lies in {source.path}, which is read whole")
            if isinstance(source, HfDatasetSource) and source.images.resolve().is_relative_to(source.path.resolve()):
                raise ValueError(
                    f"source {source.name!r}: images ({source.images}) lies in {source.path}, so the next build would "
                    "read as data what this one writes; choose a directory elsewhere"
                )
        return self

    @property
    def has_train(self) -> bool:
        """True when a source has the role ``train``; without one, only test photos are prepared."""
        return any(source.role == "train" for source in self.sources)

    def with_workers(self, workers: int) -> BuildConfig:
        """The same config with another number of processes.

        Raises:
            ConfigError: The number is out of range.
        """
        try:
            return BuildConfig.model_validate({**self.model_dump(), "workers": workers})
        except ValidationError as error:
            raise ConfigError(f"workers is {workers}: {error.errors()[0]['msg']}") from None

    def content(self) -> dict[str, Any]:
        """What decides the result, as JSON values: everything but ``out`` and ``workers``."""
        return self.model_dump(mode="json", exclude={"out", "workers"})


def load_build_config(path: str | Path) -> BuildConfig:
    """Read and check a build config. Paths in it are relative to the current directory.

    Raises:
        ConfigError: The file is missing, is no YAML or breaks a rule; every finding is in the message.
    """
    path = Path(path)
    return read_config(Path(path), BuildConfig, "build config", "the shipped ones are in recipes/data/")
