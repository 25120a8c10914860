"""From a source to the shares that train, select, calibrate and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset

from assay.console import say
from assay.errors import DataError, ModelError
from assay.feedback import (
    CheckReport,
    Overlap,
    ReadReport,
    check,
    kind_of,
    pairs,
    read_with_report,
    split,
    without_groups,
)
from assay.feedback.grades import grade_table
from assay.feedback.pairs import WEAK
from assay.feedback.records import message
from assay.feedback.splitting import group_columns
from assay.workflows.run_settings import ReadingSettings

SEEN_GROUPS = "seen_groups.npy"

# Fewer held-out judgements than this tell neither when to stop nor a temperature.
FEWEST_VALIDATION = 20
# Checking reads every row once more; beyond this many it is left to `assay check`.
MOST_ROWS_CHECKED = 200_000
_BATCH_ROWS = 1000


@dataclass(frozen=True)
class Shares:
    """Comparisons by purpose; no split group is in two of them.

    Attributes
    ----------
    fit
        Trains the weights.
    validation
        Decides when to stop, and calibrates; None: too few judgements, or not wanted.
    test
        Judges the result; None: not wanted.
    reads
        What reading each source did.
    removed
        What was taken out of the training data because the test data holds it too.
    """

    fit: Dataset
    validation: Dataset | None
    test: Dataset | None
    reads: list[ReadReport] = field(default_factory=list)
    removed: Overlap | None = None

    @property
    def training(self) -> Dataset:
        """Everything that may influence the model: fit and validation."""
        from datasets import concatenate_datasets

        return self.fit if self.validation is None else concatenate_datasets([self.fit, self.validation])


def read_judgements(
    source: str, reading: ReadingSettings, *, split: str | None = None, graded: bool | None = False
) -> tuple[Dataset, ReadReport]:
    """Read the records that hold a judgement; the others are left out and counted in the report.

    Parameters
    ----------
    source, reading
        As in the settings.
    split
        For a source that names none.
    graded
        Read the records that hold a grade instead, judged or not, and ratings as graded responses. Otherwise ratings
        become comparisons where one prompt has several rated responses. None: the records that hold a judgement, and
        where there are none those that hold a grade.

    Raises
    ------
    DataError
        If the source holds prompts, or nothing is judged, or graded.
    """
    way = "comparisons" if graded is False else "responses"
    data, report = read_with_report(source, **reading.reading() | {"split": split, "ratings": way})
    kind = kind_of(data)
    if kind != "comparisons":
        raise DataError(
            "these are no judgements between responses",
            where=source,
            expected="comparisons: responses of one prompt, and which of them is better",
            got=f"{kind}, read as {report.format}",
            remedy="name the columns with --mapping.prompt, --mapping.chosen, --mapping.rejected (docs/data.md)",
        )
    judged = group_columns(data)[1] > 0
    if graded or (graded is None and not judged.any()):
        return _with_grades(data, report)
    if not judged.any():
        raise DataError(
            "no pair of responses is judged here",
            where=source,
            expected="at least one judgement",
            got=f"{report.responses} responses to {len(data)} prompts, read as {report.format}, none preferred",
            remedy="label some first, or say where the verdict is: --mapping.choice, --mapping.grades (docs/data.md)",
        )
    if not judged.all():
        report.dropped["prompts without a judgement"] = int((~judged).sum())
        data = data.select(np.flatnonzero(judged))
    return data, report


def _with_grades(data: Dataset, report: ReadReport) -> tuple[Dataset, ReadReport]:
    table = grade_table(data)
    known = np.concatenate([[0], np.cumsum(~np.isnan(table.values).all(axis=1))])
    graded = known[table.offsets[1:]] > known[table.offsets[:-1]]
    if not graded.any():
        raise DataError(
            "no response is graded here",
            where=report.source,
            expected="grades of responses, or labels of good and bad ones",
            got=f"{report.responses} responses to {len(data)} prompts, read as {report.format}",
            remedy="say where the grades are: --mapping.grades (docs/data.md), or use --objective.kind pairwise",
        )
    if not graded.all():
        report.dropped["prompts without a grade"] = int((~graded).sum())
        data = data.select(np.flatnonzero(graded))
    return data, report


def check_sources(reading: ReadingSettings, reads: Iterable[ReadReport]) -> list[CheckReport]:
    """Check the sources of a run for its report; one that is large is left out, and that is said."""
    checks = []
    for report in reads:
        if report.rows > MOST_ROWS_CHECKED:
            say(f"{report.source}: {report.rows:,} rows are not checked again here; assay check {report.source} does")
        else:
            checks.append(check(report.source, **reading.reading() | {"split": None}))
    return checks


def share_out(
    data: Dataset,
    *,
    test: Dataset | None,
    test_share: float,
    validation_share: float,
    seed: int,
    reads: list[ReadReport] | None = None,
) -> Shares:
    """Split judgements by group: test first, then validation out of the rest.

    Where some judgements are weak labels and others are of people, only the latter are drawn to test, and to validate
    where they are enough: agreement with a label model is no measure of a reward model.
    """
    removed = None
    if test is not None:
        data, removed = without_groups(data, test)
        if len(data) == 0:
            raise DataError(
                "every training prompt is also in the test data",
                expected="prompts that are on one side only",
                got=f"{removed.train_rows} of {removed.train_rows} training prompts in both",
                remedy="leave --test out: a share is then held out by group",
            )
    elif test_share > 0:
        data, test = hold_out_people(data, test_share, seed, "test")
    fit, validation = data, None
    if validation_share > 0:
        names, judgements = group_columns(data)
        responses = np.array([len(texts) for texts in data["responses"]], float)
        size = np.where(judgements > 0, judgements, responses)  # graded responses may come without a judgement
        weak = weak_only(data)
        if validation_share * size.sum() >= FEWEST_VALIDATION and len(np.unique(names)) > 1:
            # another stream than the test split's, so that the two draws are independent
            drawn = seed + 1_000_003
            if weak.any() and validation_share * size[~weak].sum() >= FEWEST_VALIDATION:
                fit, validation = hold_out_people(data, validation_share, drawn, "validate")
            else:
                fit, validation = split(data, test=validation_share, seed=drawn)
    return Shares(fit, validation, test, reads or [], removed)


def weak_only(data: Dataset) -> np.ndarray:
    """Mark the records of which only weak labels are known, bool ``[records]``."""
    view = pairs(data)
    weak = np.bincount(view.row[view.source == WEAK], minlength=len(data)) > 0
    return weak & (np.bincount(view.row[view.source != WEAK], minlength=len(data)) == 0)


def hold_out_people(data: Dataset, share: float, seed: int, purpose: str) -> tuple[Dataset, Dataset]:
    """Split off a share of the judgements of people; weak labels in its groups take no part."""
    weak = weak_only(data)
    if weak.all():
        say("all judgements are weak labels: the test tells how well they are predicted, not how good the model is")
    if weak.all() or not weak.any():
        return split(data, test=share, seed=seed)
    _, test = split(data.select(np.flatnonzero(~weak)), test=share, seed=seed)
    inside = np.isin(group_columns(data)[0], np.unique(group_columns(test)[0]))
    if (inside & weak).any():
        say(f"{int((inside & weak).sum()):,} weak labels of prompts that {purpose} take no part")
    return data.select(np.flatnonzero(~inside)), test


def without_prompts(data: Dataset) -> Dataset:
    """Return the same judgements with every prompt replaced by one empty message, to train a model blind to it."""
    empty = [message("user", "")]
    return data.map(lambda _: {"prompt": empty}, features=data.features, desc="Hiding prompts")


def content_key(parts: Iterable[Dataset | None]) -> str:
    """Hash prompts, responses, judgements and grades, in order and by part: a resumed run tells its data again."""
    digest = hashlib.sha256()
    for data in parts:
        digest.update(b"part")
        if data is None:
            continue
        view = pairs(data)
        table = grade_table(data)
        for array in (view.row, view.a, view.b, view.p, view.m, view.w, view.confidence, table.values, table.offsets):
            digest.update(array.tobytes())
        digest.update("\0".join([*table.dimensions, "", *map(str, view.annotator)]).encode("utf-8", "surrogatepass"))
        for name in ("prompt_id", "split_group"):
            digest.update("\0".join(group_columns(data, name)[0]).encode("utf-8", "surrogatepass"))
        for batch in data.select_columns(["responses"]).iter(_BATCH_ROWS):
            texts = "\0".join(text for responses in batch["responses"] for text in responses)
            digest.update(texts.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def group_keys(data: Dataset, columns: Sequence[str] = ("split_group", "prompt_id")) -> np.ndarray:
    """Return sorted uint64 keys of split groups and prompts, to recognise them later without their texts."""
    names = np.unique(np.concatenate([group_columns(data, name)[0] for name in columns]))
    return np.unique(_hashed(names))


def unseen(data: Dataset, seen: np.ndarray) -> tuple[Dataset, int]:
    """Return the records whose group and prompt are not among ``seen``, and how many were left out."""
    known = np.zeros(len(data), bool)
    for column in ("split_group", "prompt_id"):
        names, of_row = np.unique(group_columns(data, column)[0], return_inverse=True)
        known |= np.isin(_hashed(names), seen)[of_row]
    return (data.select(np.flatnonzero(~known)) if known.any() else data), int(known.sum())


def _hashed(names: np.ndarray) -> np.ndarray:
    digests = (hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() for name in names)
    return np.fromiter((int.from_bytes(digest[:8], "little") for digest in digests), np.uint64, count=len(names))


def write_seen_groups(folder: Path, keys: np.ndarray, begun_from: str | None = None) -> None:
    """Store the keys of the groups that trained or calibrated a model beside its weights.

    What trained the model that it began as, if that tells, is among them: its weights still know it.
    """
    before = None if begun_from is None else seen_groups(begun_from)
    np.save(folder / SEEN_GROUPS, keys if before is None else np.union1d(keys, before))


def seen_groups(model: str) -> np.ndarray | None:
    """Return the keys of the groups that trained a model, or None where its folder does not tell.

    Raises
    ------
    ModelError
        If the file is damaged.
    """
    named = Path(model).expanduser()
    for folder in (named, named / "model"):
        path = folder / SEEN_GROUPS
        if path.is_file():
            try:
                return np.asarray(np.load(path, allow_pickle=False), np.uint64)
            except (ValueError, EOFError) as error:
                raise ModelError(
                    "the list of groups that trained this model is damaged, so nothing tells what it has seen",
                    where=str(path),
                    remedy="restore the file",
                ) from error
    return None
