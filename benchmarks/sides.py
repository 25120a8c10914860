"""The sides of the training benchmark: assay, TRL, and a plain loop over transformers. All get the same token ids."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from harness import Stopwatch, Window
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from works import Work

from assay.objectives import pairwise_loss
from assay.training import PreferenceArguments, PreferenceTrainer
from assay.training.data import TextSource
from assay.training.records import TrainingRecords

LEARNING_RATE = 1e-5
TOKEN_BUDGET = 8192


class Judged:
    """Which texts each judgement compares, and which judgements each record has."""

    def __init__(self, work: Work) -> None:
        view, offsets = work.records.pairs, work.records.offsets
        a, b = offsets[view.row] + view.a, offsets[view.row] + view.b
        #: ``[E, 2]``: better and worse text. A tie counts as won by the first: every side then does the same work.
        self.texts = np.where((view.p >= 0.5)[:, None], np.stack([a, b], 1), np.stack([b, a], 1))
        order = np.argsort(view.row, kind="stable")
        self.of_record = np.split(order, np.searchsorted(view.row[order], np.arange(1, len(offsets) - 1)))


class Clock(TrainerCallback):
    """Times a run of a trainer, from its first batch to the end of its last step."""

    def __init__(self) -> None:
        self.watch, self.window = Stopwatch(), Window(0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start."""
        self.watch = Stopwatch()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Read the clocks."""
        self.window = self.watch.window()


def classifier(work: Work) -> Any:
    """Return a plain sequence classifier with the weights of the work's reward model."""
    model = AutoModelForSequenceClassification.from_pretrained(
        work.folder_of_weights, num_labels=1, dtype=torch.float32
    )
    ours = work.model.backbone
    if work.model.config.layout == "native":
        model.load_state_dict(ours.state_dict())
    else:
        model.base_model.load_state_dict(ours.state_dict())
        model.score.load_state_dict({"weight": work.model.get_parameter("head.weight").reshape(1, -1)})
    model.config.get_text_config().pad_token_id = work.pad_id
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return model


class Ours:
    """assay's trainer as `assay train` runs it."""

    def __init__(
        self, work: Work, pairs_per_step: int, *, bf16: bool, compiled: bool = False, budget: int = TOKEN_BUDGET
    ) -> None:
        self.name = "assay, compiled layers" if compiled else "assay"
        self.model: Any = work.model
        self.pairs_per_step = pairs_per_step
        self.bf16, self.compiled, self.budget = bf16, compiled, budget

    def arguments(self, folder: str, epochs: int) -> PreferenceArguments:
        """Return how is trained."""
        return PreferenceArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            learning_rate=LEARNING_RATE,
            pairs_per_step=self.pairs_per_step,
            token_budget=self.budget,
            bf16=self.bf16,
            compile_layers=self.compiled,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            logging_steps=10,
            disable_tqdm=True,
        )

    def trainer(self, portion: Work, folder: str, *, epochs: int = 1, **more: Any) -> PreferenceTrainer:
        """Return the trainer of a portion."""
        records = TrainingRecords(portion.records, portion.pad_id)
        return PreferenceTrainer(self.model, self.arguments(folder, epochs), records, **more)

    def run(self, portion: Work) -> Window:
        """Train on a portion."""
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(portion, folder, callbacks=[clock])
            trainer.train()
        return self._counted(trainer, portion, clock.window)

    def _counted(self, trainer: PreferenceTrainer, portion: Work, window: Window) -> Window:
        """Add up what the steps computed."""
        source: Any = trainer.train_dataset.source
        assert isinstance(source, TextSource)
        lengths, judged = portion.records.lengths, Judged(portion)
        for ranks in trainer.plan.steps:
            for records in ranks[0]:
                trees = [tree for record in records for tree in source.trees(int(record))]
                rows = np.array([tree.length for tree in trees])
                padded = source.layout.tokens(rows, source.layout.blocks(rows, self.budget))
                window.tokens += int(rows.sum())
                window.padded += padded
                window.largest = max(window.largest, padded)
                edges = np.concatenate([judged.of_record[record] for record in records])
                window.items += len(edges)
                window.equivalent += int(lengths[judged.texts[edges]].sum())
                window.flops += sum(self.flops(portion, source, int(record)) for record in records)
        return window

    def flops(self, portion: Work, source: TextSource, record: int) -> float:
        """Return the work of the useful tokens of a record."""
        return flops_of(portion, source, record, training=True)


def flops_of(work: Work, source: TextSource, record: int, *, training: bool) -> float:
    """Return the work of the useful tokens of a record; a shared token counts once, and so does what it sees."""
    total, texts = 0.0, work.records.ids(record)
    for tree in source.trees(record):
        distinct = {text.tobytes(): len(text) for text in (texts[member] for member in tree.members)}
        lengths, trunk = np.array(list(distinct.values())), np.array([tree.trunk])
        squares = seen(work, trunk) + sum(seen(work, length) - seen(work, trunk) for length in lengths[:, None])
        total += work.flops(tree.length, squares, training=training)
    return total


def seen(work: Work, lengths: np.ndarray) -> int:
    """Return how many tokens the tokens of some texts see, all together, each text alone."""
    squares = int((lengths.astype(np.int64) ** 2).sum())
    return squares // 2 if work.model.config.causal else squares


class TRL:
    """TRL's RewardTrainer, pairs of similar length together."""

    def __init__(
        self, work: Work, pairs_per_step: int, batch_size: int, *, bf16: bool, by_length: bool, compiled: bool = False
    ) -> None:
        self.name = f"TRL, {batch_size} pairs a batch"
        self.name += (", by length" if by_length else "") + (", compiled" if compiled else "")
        self.batch_size, self.accumulate = batch_size, max(1, round(pairs_per_step / batch_size))
        self.bf16, self.by_length, self.compiled = bf16, by_length, compiled
        self.model = classifier(work)

    def data(self, portion: Work) -> Dataset:
        """Return the pairs of a portion as TRL takes them when they are tokenised."""
        texts, records = Judged(portion).texts, portion.records
        return Dataset.from_dict(
            {
                "chosen_ids": [records.text(better) for better in texts[:, 0]],
                "rejected_ids": [records.text(worse) for worse in texts[:, 1]],
                "length": records.lengths[texts].max(axis=1),
            }
        )

    def trainer(self, portion: Work, folder: str, *, epochs: int = 1, **more: Any) -> Any:
        """Return the trainer of a portion."""
        from trl import RewardConfig, RewardTrainer

        args = RewardConfig(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=self.batch_size,
            gradient_accumulation_steps=self.accumulate,
            learning_rate=LEARNING_RATE,
            bf16=self.bf16,
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            max_length=None,
            train_sampling_strategy="group_by_length" if self.by_length else "random",
            length_column_name="length",
            # else the lengths would be removed before pairs are grouped by them
            remove_unused_columns=not self.by_length,
            torch_compile=self.compiled,
            save_strategy="no",
            report_to="none",
            logging_steps=10,
            disable_tqdm=True,
        )
        return RewardTrainer(
            model=self.model,
            args=args,
            train_dataset=self.data(portion),
            processing_class=AutoTokenizer.from_pretrained(portion.folder_of_weights),
            **more,
        )

    def run(self, portion: Work) -> Window:
        """Train on a portion."""
        from trl.trainer.reward_trainer import DataCollatorForPreference

        clock, masks, plain = Clock(), [], DataCollatorForPreference(portion.pad_id)

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            batch = plain(rows)
            masks.append(batch["attention_mask"])
            return batch

        with tempfile.TemporaryDirectory() as folder:
            self.trainer(portion, folder, callbacks=[clock], data_collator=collate).train()
        window = clock.window
        for mask in masks:
            add(window, portion, mask.sum(dim=1).numpy(), mask.numel(), len(mask) // 2)
        window.equivalent = window.tokens
        return window


def add(window: Window, work: Work, lengths: np.ndarray, padded: int, items: int = 0) -> None:
    """Count rows that hold one text each."""
    tokens = int(lengths.sum())
    window.items += items
    window.tokens += tokens
    window.padded += padded
    window.largest = max(window.largest, padded)
    window.flops += work.flops(tokens, seen(work, lengths), training=True)


class Loop:
    """A plain loop: every distinct text of a step once, sorted by length, padded, in batches."""

    def __init__(self, work: Work, pairs_per_step: int, texts_per_batch: int, *, bf16: bool) -> None:
        self.name = f"plain loop, {texts_per_batch} texts a batch"
        self.pairs_per_step, self.texts_per_batch, self.bf16 = pairs_per_step, texts_per_batch, bf16
        self.model = classifier(work)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, fused=True)

    def steps(self, judged: Judged) -> Iterator[np.ndarray]:
        """Yield the judgements of steps: whole records in random order."""
        step: list[int] = []
        for record in np.random.default_rng(0).permutation(len(judged.of_record)):
            step.extend(judged.of_record[record])
            if len(step) >= self.pairs_per_step:
                yield judged.texts[step]
                step = []
        if step:
            yield judged.texts[step]

    def run(self, portion: Work) -> Window:
        """Train on a portion."""
        window, judged = Window(0.0), Judged(portion)
        self.model.train()
        watch = Stopwatch()
        for edges in self.steps(judged):
            self._step(portion, edges, window)
        took = watch.window()
        return replace(window, seconds=took.seconds, processor_seconds=took.processor_seconds)

    def _step(self, portion: Work, edges: np.ndarray, window: Window) -> None:
        """Take one optimiser step. All batches are kept until the loss is known, as a loop without recomputing must."""
        lengths = portion.records.lengths
        texts = np.unique(edges)
        texts = texts[np.argsort(-lengths[texts], kind="stable")]
        scores = [self._scores(portion, batch, window) for batch in self._batches(texts)]
        place = {text: number for number, text in enumerate(texts)}
        a, b = torch.tensor([[place[x], place[y]] for x, y in edges]).T
        values = torch.cat(scores)
        pairwise_loss(values[a] - values[b]).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        window.items += len(edges)
        window.equivalent += int(lengths[edges].sum())

    def _batches(self, texts: np.ndarray) -> Iterable[np.ndarray]:
        """Cut texts into batches."""
        return (texts[start : start + self.texts_per_batch] for start in range(0, len(texts), self.texts_per_batch))

    def _scores(self, portion: Work, texts: np.ndarray, window: Window) -> torch.Tensor:
        """Score one batch."""
        ids, mask = padded_rows(portion, texts)
        add(window, portion, mask.sum(dim=1).numpy(), ids.numel())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            options = {"use_cache": False} if portion.model.config.causal else {}
            return self.model(input_ids=ids, attention_mask=mask, **options).logits[:, 0].float()


def padded_rows(work: Work, texts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask of some texts, one row each."""
    ids = [torch.from_numpy(work.records.text(text).astype(np.int64)) for text in texts]
    rows = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=work.pad_id)
    return rows, torch.nn.utils.rnn.pad_sequence([torch.ones_like(x) for x in ids], batch_first=True)
