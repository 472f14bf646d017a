from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_builders.augment.config import AugmentConfig
from dataset_builders.augment.copy_plan import balanced_repeats, copies_per_photo, rows_per_class
from dataset_builders.manifest import ManifestRow
from dataset_builders.task_card import TaskCard

STEPS = [{"transform": "HorizontalFlip"}]


def config_of(**changes: object) -> AugmentConfig:
    return AugmentConfig.model_validate(
        {"task": "card.yaml", "dataset": "a", "out": "b", "transforms": STEPS, **changes}
    )


def rows_of(counts: dict[str, int]) -> list[ManifestRow]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    train = [
        ManifestRow(sample_id=f"s/{i}", source="s", name=f"{i}", position=i, split="train", label=label, repeats=1)
        for i, label in enumerate(labels)
    ]
    held_out = [replace(row, sample_id=f"v{row.sample_id}", split="val", repeats=0) for row in train[:5]]
    return [*train, *held_out]


def with_copies(rows: list[ManifestRow], copies: object) -> list[ManifestRow]:
    made = [
        replace(row, sample_id=f"{row.sample_id}~{n}", parent=row.sample_id)
        for row, count in zip(rows, copies, strict=True)  # type: ignore[call-overload]
        for n in range(count)
    ]
    return [*rows, *made]


def test_a_policy_without_rows_keeps_the_rows_of_the_build(card: TaskCard) -> None:
    rows = [replace(row, repeats=3 * row.repeats) for row in rows_of({"hot": 4, "warm": 6, "cold": 20})]
    assert rows_per_class(rows, config_of(), card) == {"hot": 12, "warm": 18, "cold": 60}
    assert rows_per_class(rows, config_of(rows={"hot": 15}), card) == {"hot": 15, "warm": 18, "cold": 60}
    assert rows_per_class(rows, config_of(rows=10), card) == {"hot": 10, "warm": 10, "cold": 20}


@settings(max_examples=60, deadline=None)
@given(
    counts=st.tuples(*[st.integers(1, 30)] * 3),
    rows=st.integers(1, 40),
    share=st.floats(0, 1),
    dropped=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_every_class_gets_its_rows_and_no_photo_is_lost_whatever_is_dropped(
    card: TaskCard, counts: tuple[int, ...], rows: int, share: float, dropped: float, seed: int
) -> None:
    photos = rows_of(dict(zip(card.label_ids, counts, strict=True)))
    config = config_of(rows=rows, copies=share, seed=seed)
    wanted = rows_per_class(photos, config, card)
    copies_N = copies_per_photo(photos, config, card, wanted)
    everything = with_copies(photos, copies_N)
    keep = round((1 - dropped) * len(everything))
    everything = [
        replace(row, status="dropped") if row.parent and i > keep else row for i, row in enumerate(everything)
    ]
    copy_rows = {i: round(share * wanted[i]) for i in card.label_ids}
    repeats_N = balanced_repeats(everything, wanted, copy_rows, seed=seed)
    in_train: Counter[str] = Counter()
    shown = set()
    for row, repeats in zip(everything, repeats_N, strict=True):
        assert repeats == 0 or (row.usable and row.split == "train")
        in_train[str(row.label)] += int(repeats)
        if repeats:
            shown.add(row.parent or row.sample_id)
    assert shown == {row.sample_id for row in photos if row.split == "train"}
    assert in_train == wanted


def test_copies_are_spread_evenly(card: TaskCard) -> None:
    photos = rows_of({"hot": 3, "warm": 10, "cold": 40})
    config = config_of(rows=20, copies={"default": 0.5, "cold": 0.25})
    copies_N = copies_per_photo(photos, config, card, rows_per_class(photos, config, card))
    assert sorted(copies_N[:3]) == [3, 3, 4]
    assert set(copies_N[3:13]) == {1}
    assert copies_N[13:53].sum() == 10
    assert copies_N[53:].sum() == 0  # the validation set


@settings(max_examples=60, deadline=None)
@given(wanted=st.integers(0, 12), copied=st.integers(1, 6), copy_rows=st.integers(0, 12), seed=st.integers(0, 9))
def test_no_photo_is_lost_where_fewer_rows_are_wanted_than_there_are_photos(
    wanted: int, copied: int, copy_rows: int, seed: int
) -> None:
    """As in a fold, which holds more of a class's photos than its share of the plan's rows."""
    photos = [row for row in rows_of({"hot": 8}) if row.split == "train"]
    everything = with_copies(photos, [int(n < copied) for n in range(8)])
    repeats_N = balanced_repeats(everything, {"hot": wanted}, {"hot": copy_rows}, seed=seed)
    assert (repeats_N >= 0).all()
    standing = {row.parent or row.sample_id for row, count in zip(everything, repeats_N, strict=True) if count}
    assert standing == {row.sample_id for row in photos}
