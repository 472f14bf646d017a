"""Log-probabilities of answers from the most probable first tokens."""

import numpy as np
import pytest

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import Answer
from launch.predict.endpoint.readings import NoAnswerError, first_token_logps


def read(tokens: list[tuple[str | bytes, float]], *texts: str):
    named = [(token.encode() if isinstance(token, str) else token, np.log(p)) for token, p in tokens]
    logp_K, bounded_K = first_token_logps(named, [Answer(id=f"a{k}", text=text) for k, text in enumerate(texts)])
    return np.exp(logp_K), bounded_K.tolist()


def test_other_ways_to_cut_an_answer_are_added_up():
    p_K, bounded = read([("高", 0.5), ("高风险", 0.2), ("中", 0.2), ("高兴", 0.05)], "高风险", "中风险")
    assert p_K == pytest.approx([0.7, 0.2])
    assert bounded == [False, False]


def test_an_answer_that_is_not_named_gets_its_upper_bound():
    # Not more than the least one named, not more than all that is left.
    assert read([("yes", 0.5), ("maybe", 0.1)], "yes", "no")[0] == pytest.approx([0.5, 0.1])
    p_K, bounded = read([("yes", 0.7), ("maybe", 0.25)], "yes", "no")
    assert p_K == pytest.approx([0.7, 0.05])
    assert bounded == [False, True]
    assert np.isfinite(np.log(read([("yes", 0.9), ("maybe", 0.1)], "yes", "no")[0])).all(), "nothing is left"


def test_half_a_character_is_known_by_its_bytes():
    p_K, _ = read([("中".encode()[:2], 0.6), ("高".encode()[:2], 0.3)], "中风险", "高风险")
    assert p_K == pytest.approx([0.6, 0.3])


def test_a_shared_token_is_refused_unless_next_to_nothing_is_on_it():
    shared = "中".encode()[:1]
    assert shared == "低".encode()[:1]
    with pytest.raises(ConfigError, match=r"中风险, 低风险 begin with the token .* holds 20% .*--engine local or ray"):
        read([(shared, 0.1), ("中", 0.4)], "中风险", "低风险")
    p_K, bounded = read([("中", 0.9), ("x", 0.01), (shared, 0.005)], "中风险", "低风险")
    assert p_K == pytest.approx([0.9, 0.005 + 0.005]), "what is on it may all be the unnamed one's"
    assert bounded == [False, True]


def test_nothing_is_invented_where_no_answer_is_named():
    with pytest.raises(NoAnswerError, match=r"2 most probable tokens; .* is 'sorry' with probability 0.80"):
        read([("maybe", 0.1), ("sorry", 0.8)], "yes", "no")
