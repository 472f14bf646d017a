"""The label scorer: exact against one forward pass an answer, inputs as in LLaMA-Factory's training."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataset_builders.errors import ConfigError
from dataset_builders.sharegpt import conversation
from dataset_builders.task_card import Answer, Prompt
from launch.predict.answers import build_trie
from launch.predict.model import LoadedModel, ModelSpec, load_for_prediction
from launch.predict.rows import PhotoRow, Shard
from launch.predict.scorer import LabelScorer, off_label_mass
from launch.predict.worker import ScoringJob, ShardWorker
from launch.preflight.length import ImageRules, image_tokens

PREPROCESSING = {"template": "qwen2_vl", "image_max_pixels": 168 * 168, "image_min_pixels": 56 * 56}
END = 0


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_for_prediction(ModelSpec(str(tiny_model), None, PREPROCESSING, "cpu", "auto", 1))


def read_photos(photo_dir: Path, count: int) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(photo_dir.iterdir())[:count]]


def naive_logp(loaded: LoadedModel, scorer: LabelScorer, photo: Image.Image) -> np.ndarray:
    """One full forward pass an answer, positions left to the model."""
    import torch

    encoded = scorer.encode([photo])
    prompt = encoded.prompt_ids[0]
    found = []
    for answer in scorer.encoder.answer_ids(photo):
        ids = torch.tensor([prompt + answer])
        is_image = (ids == loaded.model.config.image_token_id).int()
        with torch.inference_mode():
            output = loaded.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=is_image, **encoded.vision
            )
        logp = output.logits[0].log_softmax(-1)
        found.append(sum(logp[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer)))
    return np.array(found)


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=8, unique_by=tuple))
def test_trie_holds_every_answer(bodies):
    answers = [[*body, END] for body in bodies]
    trie = build_trie(answers)
    for answer, path in zip(answers, trie.paths, strict=True):
        assert [token for _, token in path] == answer
        assert path[0][0] == -1
        for (_, token), (asked, _) in itertools.pairwise(path):
            assert trie.tokens[asked] == token
    prefixes = {tuple(body[:length]) for body in bodies for length in range(1, len(body) + 1)}
    assert len(trie) == len(prefixes)
    assert trie.visibility().sum(axis=1).tolist() == list(trie.depths)


def test_trie_refuses_equal_and_empty_answers():
    with pytest.raises(ConfigError, match="same tokens"):
        build_trie([[1, END], [1, END]])
    with pytest.raises(ConfigError, match="no tokens"):
        build_trie([[END]])


def test_off_label_mass_stays_in_range():
    logp_BK = np.log(np.array([[0.2, 0.3], [0.5, 0.5 + 1e-12], [1e-300, 1e-300]]))
    np.testing.assert_allclose(off_label_mass(logp_BK), [0.5, 0.0, 1.0])


@pytest.mark.parametrize("stage", [0, 1])
def test_exact_for_the_task_card(loaded, card, photo_dir, stage):
    name = card.stages[stage]
    scorer = LabelScorer(loaded, card.prompt(name), card.answers(name))
    photos = read_photos(photo_dir, 5)
    expected = np.stack([naive_logp(loaded, scorer, photo) for photo in photos])
    np.testing.assert_allclose(scorer.score(photos), expected, atol=1e-4)
    assert expected.std(axis=0).max() > 1e-3  # the photo matters, or the test shows nothing


def test_exact_for_shared_prefixes_and_an_answer_that_begins_another(loaded, photo_dir):
    texts = ["ab", "abc", "abcd", "abd", "b", "bbbbbbbb"]
    answers = tuple(Answer(id=f"a{i}", text=text) for i, text in enumerate(texts))
    scorer = LabelScorer(loaded, Prompt(system="s", user="q?"), answers)
    photos = read_photos(photo_dir, 3)
    trie = build_trie(scorer.encoder.answer_ids(photos[0]))
    assert len(trie) < sum(len(path) - 1 for path in trie.paths)  # prefixes are shared
    expected = np.stack([naive_logp(loaded, scorer, photo) for photo in photos])
    np.testing.assert_allclose(scorer.score(photos), expected, atol=1e-4)


def test_batch_mates_do_not_matter(loaded, card, photo_dir):
    scorer = LabelScorer(loaded, card.prompt("base"), card.answers("base"))
    photos = read_photos(photo_dir, 9)
    together = scorer.score(photos)
    alone = np.concatenate([scorer.score([photo]) for photo in photos])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_photos_of_as_many_tokens_share_a_batch_and_the_list_keeps_its_order(tiny_model, card, tmp_path):
    """Four sizes in turn, one photo that is not there: batches rise in size, no row gets another one's scores."""
    spec = ModelSpec(str(tiny_model), None, PREPROCESSING, "cpu", "auto", 1)
    worker = ShardWorker(ScoringJob(spec, card.prompt("base"), card.answers("base"), batch_size=2))
    rules = ImageRules(recipe_min_pixels=56 * 56, recipe_max_pixels=168 * 168)
    rng, rows = np.random.default_rng(0), []
    for number, (width, height) in enumerate([(168, 168), (56, 84), (112, 56), (84, 140)] * 2):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
        rows.append(PhotoRow(path.name, str(path), "", tokens=image_tokens(width, height, rules)))
    rows.insert(3, PhotoRow("gone", str(tmp_path / "gone.png"), ""))
    seen = []
    score = worker._scorer.score_encoded
    worker._scorer.score_encoded = lambda batch: seen.append({len(ids) for ids in batch.prompt_ids}) or score(batch)
    found = worker.score(Shard(0, tuple(rows)))
    assert len({row.tokens for row in rows}) == 5
    assert [sorted(sizes) for sizes in seen] == sorted(sorted(sizes) for sizes in seen)
    assert [bool(error) for error in found.errors] == [row.sample_id == "gone" for row in rows]
    alone = [worker.score(Shard(0, (row,))).logp_RK[0] for row in rows]
    np.testing.assert_allclose(found.logp_RK, alone, atol=1e-4)
    assert len({tuple(row.round(6)) for row in found.logp_RK}) == len(rows)


def test_tokens_of_a_row_are_what_the_encoder_makes_of_its_photo(loaded, card, tmp_path):
    from launch.preflight.length import image_rules
    from launch.recipe import load_recipe

    recipe = load_recipe("recipes/tiny/base.yaml")
    scorer = LabelScorer(loaded, card.prompt("base"), card.answers("base"))
    for width, height in [(168, 168), (56, 84), (300, 100), (40, 900)]:
        ids = scorer.encode([Image.new("RGB", (width, height))]).prompt_ids[0]
        expected = ids.count(loaded.model.config.image_token_id)
        assert image_tokens(width, height, image_rules(recipe)) == expected


def test_inputs_equal_those_of_training(loaded, card, photo_dir, tmp_path):
    """The same example by LLaMA-Factory's own converter, tokenising and collating."""
    import torch
    from llamafactory.data.collator import MultiModalDataCollatorForSeq2Seq
    from llamafactory.data.converter import SharegptDatasetConverter
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.hparams import DataArguments

    from dataset_builders.sharegpt import write_dataset_info
    from launch.predict.batch import CommonPrefix, batch_inputs

    path = sorted(photo_dir.iterdir())[0]
    answers = card.answers("base")
    write_dataset_info(tmp_path, [f"{card.task}_train"], card)
    arguments = DataArguments(template="qwen2_vl", dataset_dir=str(tmp_path), media_dir=str(photo_dir))
    (attributes,) = get_dataset_list([f"{card.task}_train"], str(tmp_path))
    example = conversation(card.prompt("base"), path.name, answers[2].text)
    converted = SharegptDatasetConverter(attributes, arguments)(json.loads(json.dumps(example)))
    processor = SupervisedDatasetProcessor(loaded.template, loaded.tokenizer, loaded.processor, arguments)
    features = processor.preprocess_dataset({key: [value] for key, value in converted.items()})
    collator = MultiModalDataCollatorForSeq2Seq(
        tokenizer=loaded.tokenizer, model=loaded.model, template=loaded.template, processor=loaded.processor
    )
    trained = collator([{key: value[0] for key, value in features.items()}])

    scorer = LabelScorer(loaded, card.prompt("base"), answers)
    photo = Image.open(path).convert("RGB")
    encoded = scorer.encode([photo])
    ids, length = trained["input_ids"][0].tolist(), len(encoded.prompt_ids[0])
    assert encoded.prompt_ids[0] == ids[:length]
    answer = scorer.encoder.answer_ids(photo)[2]
    assert answer == ids[length : length + len(answer)]
    assert trained["labels"][0][length - 1 : length + 1].tolist() == [-100, answer[0]]
    assert torch.equal(encoded.vision["pixel_values"], trained["pixel_values"])
    assert torch.equal(encoded.vision["image_grid_thw"], trained["image_grid_thw"])
    prefix = CommonPrefix(loaded, encoded.prompt_ids[0])
    assert len(prefix) > 100  # the system text
    inputs = batch_inputs(encoded, build_trie([answer]), prefix, loaded)
    nodes = len(answer) - 1
    assert torch.equal(inputs["position_ids"], trained["position_ids"][1:, :, len(prefix) : length + nodes])
