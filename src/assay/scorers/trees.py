"""Prefix trees: what texts begin with in common is computed once, every distinct ending once.

A row holds one tree: its trunk (the longest common token prefix), then its branches, one for each distinct ending. Each
branch counts its positions on from the trunk and sees the trunk and itself only, so to a causal backbone every text
looks as it would alone. Valid for causal backbones whose layers mix tokens by masked attention and nothing else; see
`shares_prefixes`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.scorers.batches import TokenIds, cost

_MOST_TEXTS = 64


@dataclass(frozen=True)
class Tree:
    """Texts that share one row.

    Attributes
    ----------
    members
        int64 ``[k]``: the texts, by index.
    trunk
        Number of tokens that all of them begin with.
    length
        Tokens of the row: the trunk, and every distinct ending.
    """

    members: np.ndarray
    trunk: int
    length: int


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """Return how many tokens two texts begin with in common."""
    shortest = min(len(a), len(b))
    differs = a[:shortest] != b[:shortest]
    place = int(differs.argmax()) if shortest else 0
    return place if shortest and differs[place] else shortest


def grow(texts: Sequence[TokenIds], longest: int | None = None) -> list[Tree]:
    """Group texts into trees at the least total cost.

    Sorted as sequences of tokens, texts with common beginnings are neighbours, and the trunk of a run of neighbours
    is the least of the prefixes between them. The best grouping of the first j texts follows from those of fewer.

    Parameters
    ----------
    texts
        Token ids, in any order; equal texts are computed once.
    longest
        No tree of several different texts has more tokens; None: no limit beside cost.
    """
    if not len(texts):
        return []
    arrays = [np.asarray(text, np.int32) for text in texts]
    order = sorted(range(len(arrays)), key=lambda index: arrays[index].astype(">u4").tobytes())
    lengths = [len(arrays[index]) for index in order]
    shared = [common_prefix(arrays[a], arrays[b]) for a, b in itertools.pairwise(order)]
    best: list[float] = [0.0]
    start_of: list[int] = [0]
    trunk_of: list[int] = [0]
    length_of: list[int] = [0]
    for end in range(1, len(order) + 1):
        trunk = total = lengths[end - 1]
        distinct, found = 1, (float("inf"), end - 1, trunk, trunk)
        for start in range(end - 1, max(-1, end - 1 - _MOST_TEXTS), -1):
            if start < end - 1:
                same = shared[start] == lengths[start] == lengths[start + 1]
                trunk = min(trunk, shared[start])
                if not same:
                    distinct, total = distinct + 1, total + lengths[start]
            length = total - (distinct - 1) * trunk
            if longest is not None and length > longest and distinct > 1:
                break
            candidate = best[start] + cost(length)
            if candidate < found[0]:
                found = (candidate, start, trunk if distinct > 1 else lengths[end - 1], length)
            if trunk == 0:
                break
        best.append(found[0])
        start_of.append(found[1])
        trunk_of.append(found[2])
        length_of.append(found[3])
    trees = []
    end = len(order)
    while end:
        start = start_of[end]
        trees.append(Tree(np.array(order[start:end], np.int64), trunk_of[end], length_of[end]))
        end = start
    return trees[::-1]


def one_by_one(texts: Sequence[TokenIds]) -> list[Tree]:
    """Give every text a row of its own."""
    return [Tree(np.array([index]), len(text), len(text)) for index, text in enumerate(texts)]


def predicted(texts: Sequence[TokenIds], trees: Sequence[Tree], starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Say where each token of a reply is predicted: at the token before it.

    Parameters
    ----------
    texts, trees
        As for `lay_out`.
    starts
        Where the reply begins in each of the texts, int64. A reply that begins a text loses its first token, which
        nothing comes before.
    ends
        Row and column of the last token of every member, tree after tree.

    Returns
    -------
    np.ndarray
        int64 ``[T, 4]``: text (its place among the members), row, column, token.
    """
    parts, place = [np.zeros((0, 4), np.int64)], 0
    for tree in trees:
        for member in tree.members:
            ids, (row, end) = np.asarray(texts[member]), ends[place]
            before = np.arange(max(int(starts[member]), 1), len(ids)) - 1
            # what is behind the trunk stands in one piece that ends at the text's last token
            column = np.where(before < tree.trunk, before, end - (len(ids) - 1 - before))
            part = np.stack([np.full_like(before, place), np.full_like(before, row), column, ids[before + 1]], axis=1)
            parts.append(part)
            place += 1
    return np.concatenate(parts)


def lay_out(texts: Sequence[TokenIds], trees: Sequence[Tree], pad_id: int) -> dict[str, np.ndarray]:
    """Write trees into rows.

    Returns
    -------
    dict
        ``input_ids``, ``position_ids``, ``branch`` (0 trunk, 1 … branches, -1 padding): int64 ``[trees, L]``; ``ends``:
        int64 ``[N, 2]``, row and column of the last token of every member, tree after tree.
    """
    shape = (len(trees), max(tree.length for tree in trees))
    ids = np.full(shape, pad_id, np.int64)
    positions = np.zeros(shape, np.int64)
    branch = np.full(shape, -1, np.int64)
    ends = []
    for row, tree in enumerate(trees):
        trunk = np.asarray(texts[tree.members[0]])[: tree.trunk]
        ids[row, : tree.trunk] = trunk
        positions[row, : tree.trunk] = np.arange(tree.trunk)
        branch[row, : tree.trunk] = 0
        column, number, former = tree.trunk, 0, None
        for member in tree.members:
            text = np.asarray(texts[member])
            if former is None or not np.array_equal(text, former):
                count = len(text) - tree.trunk
                number += 1
                ids[row, column : column + count] = text[tree.trunk :]
                positions[row, column : column + count] = np.arange(tree.trunk, len(text))
                branch[row, column : column + count] = number
                column += count
                end = column - 1 if count else tree.trunk - 1
                former = text
            ends.append((row, end))
    return {"input_ids": ids, "position_ids": positions, "branch": branch, "ends": np.array(ends, np.int64)}
