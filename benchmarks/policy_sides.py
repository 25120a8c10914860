"""The sides of the benchmark of policies: assay and TRL's DPOTrainer. Both get the same token ids."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from harness import Window
from sides import LEARNING_RATE, TOKEN_BUDGET, Clock, Judged, Ours, add, flops_of
from transformers import AutoModelForCausalLM, AutoTokenizer
from works import Work

from assay.scorers import FrozenReference, Policy, PolicyOptions, create_policy
from assay.scorers.likelihood_cache import LikelihoodCache
from assay.training import PairwiseObjective, PreferenceTrainer
from assay.training.data import TextSource
from assay.training.records import TrainingRecords

BETA = 0.1


def policy_of(work: Work) -> Policy:
    """Return the policy that a work begins with."""
    return create_policy(
        PolicyOptions(work.folder, beta=BETA, max_length_tokens=work.model.encoder.settings.max_length_tokens)
    )


def said_by(work: Work, portion: Work, *, bf16: bool) -> np.ndarray:
    """Return the log-probabilities of the replies of a portion by the policy as it came, ``[texts]``."""
    folder = Path(work.folder).with_name("likelihoods")
    return LikelihoodCache(policy_of(work), folder, dtype=torch.bfloat16 if bf16 else None).of(portion.records)


class OurPolicy(Ours):
    """assay's trainer as `assay align` runs it (cached), or with a reference at work beside the policy (live)."""

    def __init__(
        self,
        work: Work,
        pairs_per_step: int,
        *,
        bf16: bool,
        live: bool,
        compiled: bool = False,
        budget: int = TOKEN_BUDGET,
    ) -> None:
        super().__init__(work, pairs_per_step, bf16=bf16, compiled=compiled, budget=budget)
        self.work, self.live = work, live
        self.name = f"assay, {'live' if live else 'cached'} reference" + (", compiled layers" if compiled else "")
        self.model = self.policy = policy_of(work)
        if live:
            self.policy.reference = FrozenReference.of(self.policy)

    def records(self, portion: Work) -> TrainingRecords:
        """Return what is learned from, with what the reference says where that was computed before."""
        known = None if self.live else said_by(self.work, portion, bf16=self.bf16)
        return TrainingRecords(portion.records, portion.pad_id, with_replies=True, reference=known)

    def trainer(self, portion: Work, folder: str, *, epochs: int = 1, **more: Any) -> PreferenceTrainer:
        """Return the trainer of a portion."""
        options = {"objective": PairwiseObjective(beta=BETA)} | more
        return PreferenceTrainer(self.policy, self.arguments(folder, epochs), self.records(portion), **options)

    def flops(self, portion: Work, source: TextSource, record: int) -> float:
        """Return the work of a record; the reference reads it too, where it is at work."""
        passes = 4 / 3 if self.live else 1.0
        return passes * (flops_of(portion, source, record, training=True) + head_flops(portion, self.policy, record))


def head_flops(work: Work, policy: Policy, record: int) -> float:
    """Return what the vocabulary head does for the replies of a record."""
    first, last = work.records.offsets[record], work.records.offsets[record + 1]
    tokens = int((work.records.lengths[first:last] - work.records.reply_starts[first:last]).sum())
    return 6.0 * tokens * policy.whole.get_output_embeddings().weight.numel()


class TRLPolicy:
    """TRL's DPOTrainer, pairs of similar length together."""

    def __init__(
        self,
        work: Work,
        pairs_per_step: int,
        batch_size: int,
        *,
        bf16: bool,
        live: bool,
        by_length: bool,
        compiled: bool = False,
    ) -> None:
        self.name = f"TRL, {'live' if live else 'cached'} reference, {batch_size} pairs a batch"
        self.name += (", by length" if by_length else "") + (", compiled" if compiled else "")
        self.batch_size, self.accumulate = batch_size, max(1, round(pairs_per_step / batch_size))
        self.work, self.bf16, self.live = work, bf16, live
        self.by_length, self.compiled = by_length, compiled
        self.model, self.other = self._plain(), self._plain() if live else None

    def _plain(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.work.folder_of_weights, dtype=torch.float32)

    def data(self, portion: Work) -> Dataset:
        """Return the pairs of a portion as the trainer holds them when they are tokenised."""
        texts, records = Judged(portion).texts, portion.records
        rows = []
        for better, worse in texts:
            start = int(records.reply_starts[better])
            ids, other = records.text(better).tolist(), records.text(worse).tolist()
            rows.append({"prompt_ids": ids[:start], "chosen_ids": ids[start:], "rejected_ids": other[start:]})
            assert ids[:start] == other[:start], "the sides of a pair have one prompt"
        columns: dict[str, Any] = {
            name: [row[name] for row in rows] for name in ("prompt_ids", "chosen_ids", "rejected_ids")
        }
        columns["length"] = records.lengths[texts].max(axis=1)
        if not self.live:
            known = said_by(self.work, portion, bf16=self.bf16)
            columns |= {"ref_chosen_logps": known[texts[:, 0]], "ref_rejected_logps": known[texts[:, 1]]}
        return Dataset.from_dict(columns)

    def trainer(self, portion: Work, folder: str, *, epochs: int = 1, **more: Any) -> Any:
        """Return the trainer of a portion."""
        from trl import DPOConfig, DPOTrainer

        class Tokenised(DPOTrainer):
            """Takes pairs that are tokenised, and log-probabilities of a reference that are known."""

            def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
                return dataset

            def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
                return dataset

        args = DPOConfig(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=self.batch_size,
            gradient_accumulation_steps=self.accumulate,
            learning_rate=LEARNING_RATE,
            beta=BETA,
            bf16=self.bf16,
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            max_length=None,
            precompute_ref_log_probs=not self.live,
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
        return Tokenised(
            model=self.model,
            ref_model=self.other,
            args=args,
            train_dataset=self.data(portion),
            processing_class=AutoTokenizer.from_pretrained(portion.folder_of_weights),
            **more,
        )

    def run(self, portion: Work) -> Window:
        """Train on a portion."""
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(portion, folder, callbacks=[clock])
            plain, masks = trainer.data_collator, []

            def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
                batch = plain(rows)
                masks.append((batch["attention_mask"], batch["completion_mask"]))
                return batch

            trainer.data_collator = collate
            trainer.train()
        window, words = clock.window, self.model.get_output_embeddings().weight.numel()
        for mask, replies in masks:
            add(window, portion, mask.sum(dim=1).numpy(), mask.numel(), len(mask) // 2)
            window.flops += 6.0 * int(replies.sum()) * words
        window.flops *= 4 / 3 if self.live else 1
        window.equivalent = window.tokens
        return window
