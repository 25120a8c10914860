"""The one scorer interface: three calls, and everything above them uses only these."""

from __future__ import annotations

from typing import Protocol, TypedDict

from torch import Tensor


class Rows(TypedDict, total=False):
    """Texts in rows of one length: what a backbone is called with once. See `assay.scorers.layout`.

    Attributes
    ----------
    input_ids
        ``[R, L]`` int64, filled up on the right.
    attention_mask
        ``[R, L]`` int64, 1 for real tokens: each row holds one text.
    position_ids, branch
        Instead of the mask, ``[R, L]`` int64: each row holds a prefix tree; the place of a token in its text, and 0 for
        the trunk, 1 and up for the branches, -1 for padding.
    document
        ``[R, L]`` int64, where several trees stand end to end in a row: the number of the tree.
    ends
        ``[N, 2]`` int64: row and column of the last token of each text; not with ``attention_mask``.
    trunk
        Number of first columns that belong to the trunk in every row; 0 where they are not worth a call of their own.
    predicted
        ``[T, 4]`` int64, where log-probabilities of replies are asked for: of each token of a reply its text, the row
        and the column of the token before it, and its id.
    edited
        ``[T]`` bool, of the same tokens: whether each tells its text from those that it is compared with.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    branch: Tensor
    document: Tensor
    ends: Tensor
    trunk: int
    predicted: Tensor
    edited: Tensor


class Batch(TypedDict, total=False):
    """What a scorer gets: N texts (token ids in rows, or features computed before) and E judgements among them.

    Attributes
    ----------
    rows
        Blocks of rows.
    order
        ``[N]`` int64: where among the texts of all blocks, one block after the other, each text stands.
    features
        ``[N, d]``: pooled states of a frozen backbone, instead of rows.
    edges
        ``[E, 2]`` int64: the texts a and b of each judgement.
    prompts
        ``[N]`` int64: the text that is the prompt of each text alone, for scorers that read it.
    target, margin, weight
        ``[E]`` float32: p, m, w of each judgement; weight also ``[E, members]``.
    length_gap
        ``[E]`` float32: difference of the logarithms of the responses' lengths in characters (plus 1), a minus b.
    parted
        ``[E]`` int64: how many tokens both replies of a judgement begin with, for losses of prefixes.
    lists
        ``[B, k]`` int64: the texts of each of B records, filled up with -1; where responses are graded.
    grades
        ``[N]`` float32: grade of each text, NaN where there is none.
    record_weight
        ``[B]`` or ``[B, members]`` float32.
    attributes
        ``[N, A]`` float32: grades of each text by dimension, NaN where there is none.
    text_weight
        ``[N]`` or ``[N, members]`` float32: weight of the record that each text belongs to.
    owners
        ``[N]`` int64: number of the prompt that each text answers; for heads that must not meet what it built.
    classes
        ``[N]`` or ``[N, members]`` int8: chosen (1), rejected (-1), or neither (0); in training only.
    reference
        ``[N]`` float32: log-probability of each reply by a reference, for losses that look at ratios to it.
    own
        ``[N]`` float32: weight of each text as a response that the policy itself gave before; 0 for others.
    learned
        ``[N]`` float32: weight of each text whose likelihood is learned; 0 for others.
    roles
        ``[N]`` float32: 1, 2 and 3 for the texts of a triplet over paraphrased prompts, 0 for others.
    elsewhere
        ``[N]`` float32: 1 for responses to other prompts, which tell how far a policy is from its reference; else 0.
    """

    rows: list[Rows]
    order: Tensor
    features: Tensor
    edges: Tensor
    prompts: Tensor
    target: Tensor
    margin: Tensor
    weight: Tensor
    length_gap: Tensor
    parted: Tensor
    lists: Tensor
    grades: Tensor
    record_weight: Tensor
    attributes: Tensor
    text_weight: Tensor
    owners: Tensor
    classes: Tensor
    reference: Tensor
    own: Tensor
    learned: Tensor
    roles: Tensor
    elsewhere: Tensor


class Scorer(Protocol):
    """Anything that tells good from bad."""

    def nodes(self, batch: Batch) -> Tensor:
        """Return one state per text, ``[N, d]``."""
        ...

    def edge_margins(self, states: Tensor, edges: Tensor) -> Tensor:
        """Return the margin of a over b, ``[E]`` or ``[E, members]``; skew: swapping a and b negates it."""
        ...

    def values(self, states: Tensor) -> Tensor | None:
        """Return a score per text, ``[N]`` or ``[N, members]``; None where no scalar exists."""
        ...
