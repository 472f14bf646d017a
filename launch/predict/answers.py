"""The token trie of the allowed answers: which positions a model must be asked at, and how to sum log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataset_builders.errors import ConfigError

__all__ = ["AnswerTrie", "build_trie"]


@dataclass(frozen=True)
class AnswerTrie:
    """Distinct prefixes of all answers, parents before children.

    Node -1 is the end of the prompt. A model is asked for the next token at the prompt's end and at each node;
    an answer's last token (end of turn) is a target only, never a node.

    Attributes:
        tokens: Token id of each node, length N.
        parents: Index of each node's parent, -1 for the prompt's end, length N.
        depths: Distance of each node from the prompt's end, >= 1, length N.
        paths: One tuple an answer of (node asked, token wanted) pairs, from the first token to the end of turn.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def visibility(self) -> np.ndarray:
        """Bool array [N, N]: row i is True at node i itself and at its ancestors, which are all that it may see."""
        visible = np.eye(len(self), dtype=bool)
        for i, parent in enumerate(self.parents):
            if parent >= 0:
                visible[i] |= visible[parent]
        return visible

    def prefixes(self) -> list[tuple[int, ...]]:
        """The token ids from the prompt's end to each node, the node's own among them."""
        found: list[tuple[int, ...]] = []
        for token, parent in zip(self.tokens, self.parents, strict=True):
            found.append((*(found[parent] if parent >= 0 else ()), token))
        return found


def build_trie(answers: Sequence[Sequence[int]]) -> AnswerTrie:
    """Merge the token sequences of all answers, each with its end-of-turn token, into one trie.

    Args:
        answers: Token ids, one sequence an answer, each of length >= 2.

    Raises:
        ConfigError: Two answers have the same tokens, or one is empty.
    """
    nodes: dict[tuple[int, ...], int] = {}
    parents: list[int] = []
    paths: list[tuple[tuple[int, int], ...]] = []
    for answer in answers:
        if len(answer) < 2:
            raise ConfigError("an answer has no tokens of its own; give every answer of the task card a text")
        asked = -1
        path: list[tuple[int, int]] = []
        for length, token in enumerate(answer, start=1):
            path.append((asked, token))
            if length == len(answer):
                break
            prefix = tuple(answer[:length])
            if prefix not in nodes:
                nodes[prefix] = len(parents)
                parents.append(asked)
            asked = nodes[prefix]
        if tuple(path) in paths:
            raise ConfigError(f"two answers of the task card have the same tokens {list(answer)}; change one text")
        paths.append(tuple(path))
    return AnswerTrie(
        tokens=tuple(prefix[-1] for prefix in nodes),
        parents=tuple(parents),
        depths=tuple(len(prefix) for prefix in nodes),
        paths=tuple(paths),
    )
