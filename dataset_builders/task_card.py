"""The task card: labels, score weights, prompts and the specialists' targets. The only place that spells a label."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dataset_builders.config_file import FrozenModel, read_config
from dataset_builders.errors import ConfigError

__all__ = [
    "BASE",
    "Answer",
    "Label",
    "PixelBudget",
    "Prompt",
    "SignKind",
    "Specialist",
    "TaskCard",
    "load_task_card",
]

BASE = "base"  # name of the generalist's stage

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
SignKind = Literal["warning_triangle", "e_bike_ban", "exit"]

# A specialist's files are <name>.json, <name>_train.json and <name>_val.json, beside those of the build.
_TAKEN_NAMES = frozenset({BASE, "train", "val", "test", "build", "build_unverified", "dataset_info", "out_of_fold"})
_TAKEN_ENDINGS = ("_train", "_val")


class Label(FrozenModel):
    """One class of the task.

    Attributes:
        id: English identifier, used in columns, file names and code.
        text: What the label files hold and what the model answers.
        weight: Weight of this class's F1 in the score, >= 0.
        rule: When a photo gets this label, one or two sentences in the prompt's language.
        aliases: Other spellings that label files may use.
    """

    id: Identifier
    text: Annotated[str, Field(min_length=1)]
    weight: Annotated[float, Field(ge=0)] = 1.0
    rule: str
    aliases: tuple[str, ...] = ()


class Prompt(FrozenModel):
    """What a model is told. ``{rules}`` becomes one line a label, ``{answers}`` the list of allowed answers."""

    system: str
    user: str


class Answer(FrozenModel):
    """One text that a stage may answer, with the identifier that names its column in predictions."""

    id: Identifier
    text: Annotated[str, Field(min_length=1)]


class Specialist(FrozenModel):
    """A second look: is the label of the photo one of the targets?

    With several targets it is a cut through the ladder, such as "at least medium" (Frank and Hall, A simple approach
    to ordinal classification, ECML 2001).

    Attributes:
        name: Stage name; names its data set, predictions and columns.
        targets: Identifiers of the labels that count as positive.
        positive: Answer when a target is in the photo.
        negative: Answer otherwise.
        prompt: What the specialist is told.
        negatives_per_positive: Size of the negative class against the positive one after balancing, > 0.
        hard_fraction: Share of the negatives that are mined by the base model's probability of the targets, 0 to 1.
    """

    name: Identifier
    targets: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    positive: Answer
    negative: Answer
    prompt: Prompt
    negatives_per_positive: Annotated[float, Field(gt=0)] = 2.0
    hard_fraction: Annotated[float, Field(ge=0, le=1)] = 0.7

    @model_validator(mode="after")
    def _consistent(self) -> Specialist:
        if self.name in _TAKEN_NAMES or self.name.endswith(_TAKEN_ENDINGS):
            raise ValueError(f"name {self.name!r} would name a file of the build or of another stage; choose another")
        if self.positive.id == self.negative.id or self.positive.text == self.negative.text:
            raise ValueError("positive and negative must differ in id and in text")
        return self


class PixelBudget(FrozenModel):
    """Pixels of a photo after resizing, as ``image_min_pixels`` and ``image_max_pixels`` of the recipes."""

    min_pixels: Annotated[int, Field(ge=28 * 28)]
    max_pixels: Annotated[int, Field(ge=28 * 28)]


class TaskCard(FrozenModel):
    """A graded-risk task.

    Attributes:
        task: Identifier; data set names in ``dataset_info.json`` start with it.
        title: One line for people.
        ladder: Labels in ordinal order, the most dangerous first.
        off_ladder: Labels outside the order (such as "not this kind of place").
        fallback: Identifier of the label that is written when a photo could not be read.
        base: Prompt of the generalist, which answers with a label's text.
        specialists: The second looks. Where the hard override must choose between them, the first one wins.
        pixel_budget: Reference pixel budget of the full-size recipes.
        protected_hues: Hue ranges in degrees [from, to) that augmentation must not move; from > to wraps at 360.
        harmless_signs: Safety signs that augmentation may add, each with the identifiers of the labels whose photos
            keep their label with such a sign in them. None by default.
    """

    task: Identifier
    title: str
    ladder: Annotated[tuple[Label, ...], Field(min_length=2)]
    off_ladder: tuple[Label, ...] = ()
    fallback: Identifier
    base: Prompt
    specialists: Annotated[tuple[Specialist, ...], Field(min_length=1)]
    pixel_budget: PixelBudget
    protected_hues: tuple[tuple[float, float], ...] = ()
    harmless_signs: dict[SignKind, tuple[Identifier, ...]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _several_specialists(cls, values: Any) -> Any:
        if isinstance(values, dict) and "specialist" in values:
            raise ValueError("specialist is now a list: write `specialists:` and put `- ` before its first key, name")
        return values

    @model_validator(mode="after")
    def _consistent(self) -> TaskCard:
        ids = [label.id for label in self.labels]
        texts = [text for label in self.labels for text in (label.text, *label.aliases)]
        for kind, values in (("id", ids), ("text or alias", texts)):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"label {kind} used twice: {', '.join(twice)}; give each label its own")
        for label in self.labels:
            for other in self.labels:
                if other is not label and other.id in (label.text, *label.aliases):
                    raise ValueError(
                        f"label {label.id} has {other.id!r} as text or alias, which is the id of label {other.id}, so "
                        "a list could mean either; change one of them"
                    )
        signed = [i for label_ids in self.harmless_signs.values() for i in label_ids]
        targets = [i for specialist in self.specialists for i in specialist.targets]
        unknown = [i for i in (*targets, self.fallback, *signed) if i not in ids]
        if unknown:
            raise ValueError(f"unknown label id: {', '.join(unknown)}; the labels are {', '.join(ids)}")
        names = [specialist.name for specialist in self.specialists]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"specialists: name used twice: {', '.join(twice)}; give each its own")
        for specialist in self.specialists:
            if set(specialist.targets) >= set(ids):
                raise ValueError(
                    f"specialists: the targets of {specialist.name} hold every label; leave one as the negative class"
                )
        return self

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """All labels, the ladder first. This order is the column order everywhere."""
        return self.ladder + self.off_ladder

    @cached_property
    def label_ids(self) -> tuple[str, ...]:
        """Identifiers in the order of ``labels``."""
        return tuple(label.id for label in self.labels)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages: the generalist's, then the specialists' in the card's order."""
        return (BASE, *(specialist.name for specialist in self.specialists))

    def specialist(self, name: str) -> Specialist:
        """The specialist with this name.

        Raises:
            ConfigError: The card has no such specialist.
        """
        for specialist in self.specialists:
            if specialist.name == name:
                return specialist
        names = ", ".join(self.stages[1:])
        raise ConfigError(f"task {self.task!r} has no specialist {name!r}; the task card names {names}")

    def text_of(self, label_id: str) -> str:
        """The text of a label, as the model answers and the submission holds it.

        Raises:
            KeyError: No label has this identifier.
        """
        return {label.id: label.text for label in self.labels}[label_id]

    def id_of(self, text: str) -> str | None:
        """The identifier of the label with this text, alias or identifier; None when there is none."""
        for label in self.labels:
            if text in (label.text, label.id, *label.aliases):
                return label.id
        return None

    def signs_for(self, label_id: str) -> tuple[SignKind, ...]:
        """The kinds of safety signs that a photo with this label may be given without changing its label."""
        return tuple(kind for kind, label_ids in self.harmless_signs.items() if label_id in label_ids)

    def answers(self, stage: str) -> tuple[Answer, ...]:
        """The answers that a stage may give, in column order.

        Raises:
            ConfigError: The card has no such stage.
        """
        if self._is_base(stage):
            return tuple(Answer(id=label.id, text=label.text) for label in self.labels)
        specialist = self.specialist(stage)
        return (specialist.positive, specialist.negative)

    def answer_for(self, stage: str, label_id: str) -> Answer:
        """The right answer of a stage for a photo with this label.

        Raises:
            ConfigError: The card has no such stage.
            KeyError: No label has this identifier.
        """
        if self._is_base(stage):
            return Answer(id=label_id, text=self.text_of(label_id))
        specialist = self.specialist(stage)
        return specialist.positive if label_id in specialist.targets else specialist.negative

    def prompt(self, stage: str) -> Prompt:
        """The prompt of a stage with its placeholders filled in; ``user`` does not hold the image token.

        Raises:
            ConfigError: The card has no such stage.
        """
        template = self.base if self._is_base(stage) else self.specialist(stage).prompt
        rules = "\n".join(f"{label.text}：{label.rule.strip()}" for label in self.labels)
        answers = "、".join(answer.text for answer in self.answers(stage))

        def fill(text: str) -> str:
            return text.strip().replace("{rules}", rules).replace("{answers}", answers)

        return Prompt(system=fill(template.system), user=fill(template.user))

    def _is_base(self, stage: str) -> bool:
        if stage not in self.stages:
            raise ConfigError(f"task {self.task!r} has no stage {stage!r}; it has {' and '.join(self.stages)}")
        return stage == BASE


def load_task_card(path: str | Path) -> TaskCard:
    """Read and check a task card.

    Raises:
        ConfigError: The file is missing, is no YAML or breaks a rule; every finding is in the message.
    """
    path = Path(path)
    return read_config(Path(path), TaskCard, "task card", "the shipped ones are in recipes/tasks/")
