from pathlib import Path

from tiny_task import make_photo

from dataset_builders.augment.gallery import COPIES, ORIGINALS, write_gallery
from dataset_builders.manifest import ManifestRow, write_manifest
from dataset_builders.task_card import TaskCard


def test_gallery_shows_originals_of_every_class_beside_their_copies(tmp_path: Path, card: TaskCard) -> None:
    rows = []
    for number in range(15):
        label = card.label_ids[number % 3]
        parent = ManifestRow(f"s/{number}", "s", f"{number}", number, "train", label=label, image=f"{number}.jpg")
        copies = [
            ManifestRow(
                f"s/{number}~{n}", "s", f"{number}", number, "train", label=label, image=f"{number}.jpg",
                parent=parent.sample_id, transform='[{"transform":"HorizontalFlip"}]',
            )
            for n in range(COPIES + 2)
        ]  # fmt: skip
        rows += [parent, *copies]
        make_photo(number).save(tmp_path / f"{number}.jpg")
    write_manifest(tmp_path, rows)
    write_gallery(tmp_path / "gallery.html", tmp_path, card)
    page = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 3 * ORIGINALS
    assert page.count("<img") == 3 * ORIGINALS * (1 + COPIES)
    assert page.count("HorizontalFlip<br>") == 3 * ORIGINALS * COPIES
    assert "<script" not in page
    write_gallery(tmp_path / "again.html", tmp_path, card)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
