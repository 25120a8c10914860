"""The one preference trainer: a ``transformers.Trainer`` for any scorer, fed by a plan."""

from __future__ import annotations

import contextlib
import math
import os
import time
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from assay.errors import AssayError
from assay.scorers.encoding import EncodedRecords, score_records
from assay.scorers.reward_model import RewardModel
from assay.training import checkpoints
from assay.training.data import PaddedSource, PlannedSteps, TrainingRecords
from assay.training.objective import PairwiseObjective
from assay.training.plan import plan_batches


class TrainingError(AssayError):
    """Raised when training cannot go on: the loss is no longer a number."""


@dataclass
class PreferenceArguments(TrainingArguments):
    """`transformers.TrainingArguments` with what a preference run needs; ``max_steps`` is set from the plan.

    Attributes
    ----------
    pairs_per_step
        Judgements per optimiser step, over all ranks and micro-batches.
    token_budget
        Padded tokens per micro-batch on each rank.
    head_learning_rate
        Of the head, which starts from nothing; None: the same as the backbone's.
    evaluations_per_epoch
        How often the held-out share is scored, where there is one.
    patience
        Stop after this many evaluations without a better held-out loss, and keep the best; 0: never stop early.
    keep_checkpoints
        Whole checkpoints kept beside the best one.
    """

    pairs_per_step: int = field(default=32)
    token_budget: int = field(default=8192)
    head_learning_rate: float | None = field(default=None)
    evaluations_per_epoch: int = field(default=2)
    patience: int = field(default=0)
    keep_checkpoints: int = field(default=2)

    def __post_init__(self) -> None:
        # One item of the data loader is one optimiser step; its micro-batches are inside.
        self.per_device_train_batch_size = 1
        self.gradient_accumulation_steps = 1
        self.remove_unused_columns = False
        # the filter reads the loss back from the device at every step
        self.logging_nan_inf_filter = False
        super().__post_init__()


class PreferenceTrainer(Trainer):
    """Train any scorer on judgements.

    Parameters
    ----------
    model
        A scorer whose ``forward`` returns margins and values.
    args
        See `PreferenceArguments`.
    train
        Records to learn from.
    held_out
        Records for early stopping and the validation curve, or None.
    objective
        Sums of losses of a micro-batch.
    callbacks
        Passed to `transformers.Trainer`.
    """

    def __init__(
        self,
        model: nn.Module,
        args: PreferenceArguments,
        train: TrainingRecords,
        held_out: EncodedRecords | None = None,
        objective: PairwiseObjective | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        self.plan = plan_batches(
            train.sizes(),
            epochs=max(1, math.ceil(args.num_train_epochs)),
            pairs_per_step=args.pairs_per_step,
            token_budget=args.token_budget,
            seed=args.seed,
            world_size=args.world_size,
        )
        self.train_records, self.held_out = train, held_out
        self.objective = objective or PairwiseObjective()
        args.max_steps = len(self.plan)
        callbacks = list(callbacks or [])
        if held_out is not None and len(held_out.pairs):
            every = max(1, math.ceil(len(self.plan) / (len(self.plan.epoch_ends) * args.evaluations_per_epoch)))
            args.eval_strategy, args.eval_steps = "steps", every
            if args.patience > 0:
                args.save_strategy, args.save_steps = "steps", every
                args.load_best_model_at_end, args.metric_for_best_model, args.greater_is_better = (
                    True,
                    "eval_loss",
                    False,
                )
                callbacks.append(EarlyStoppingCallback(early_stopping_patience=args.patience))
        # rotation is ours: it looks at markers
        args.save_total_limit = None
        super().__init__(
            model=model,
            args=args,
            train_dataset=PlannedSteps(self.plan, PaddedSource(train), args.process_index),
            eval_dataset=PlannedSteps(self.plan, PaddedSource(train)) if held_out is not None else None,
            data_collator=_only,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        # our loss is already divided by the weight of the whole step
        self.loss_is_scaled_for_ga = True
        self._sums = torch.zeros(2, device=self.args.device)
        self.seconds = 0.0

    def get_train_dataloader(self) -> DataLoader:
        """Return this rank's steps in planned order; the plan has dealt the ranks, so accelerate must not."""
        data = cast(PlannedSteps, self.train_dataset)
        return DataLoader(data, batch_size=1, sampler=SequentialSampler(data), collate_fn=_only)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run the micro-batches of one optimiser step; return the loss of the step."""
        model.train()
        weight = inputs["weight"].to(self.args.device)
        # All weights of a step 0: nothing is learned and nothing divides by zero. Distributed wrappers average over
        # ranks.
        scale = torch.where(weight > 0, self.args.world_size / weight.clamp_min(1e-30), torch.zeros_like(weight))
        total = torch.zeros((), device=self.args.device)
        batches = inputs["batches"]
        for number, batch in enumerate(batches):
            batch = self._prepare_inputs(batch)
            last = number == len(batches) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model=model):
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, batch, scale=scale)
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], scale: Tensor | float = 1.0, **_: Any
    ) -> Tensor:
        """Return the loss of one micro-batch times ``scale``; members are added up, since they share nothing."""
        fed = {name: inputs[name] for name in ("input_ids", "attention_mask", "features", "edges") if name in inputs}
        output = model(**fed)
        self._count(output["margins"].detach(), inputs)
        return (self.objective(output, inputs) * scale).sum()  # type: ignore[arg-type]

    def _count(self, margins: Tensor, inputs: dict[str, Tensor]) -> None:
        """Add up training accuracy on the device; it is read when something is logged."""
        target, weight = inputs["target"], inputs["weight"]
        if margins.dim() == 1:
            judged = (target != 0.5) & (weight > 0)
            right = torch.where(margins == 0, 0.5, ((margins > 0) == (target > 0.5)).float())
            self._sums += torch.stack([(right * judged).sum(), judged.sum()])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report the true epoch and the training accuracy since the last report; stop on a loss that is no number."""
        self.state.epoch = self.plan.epoch(self.state.global_step)
        if "loss" in logs:
            right, judged = self._sums.tolist()
            self._sums.zero_()
            if judged:
                logs["accuracy"] = right / judged
            if not math.isfinite(logs["loss"]):
                step = self.plan.steps[self.state.global_step - 1][0]
                records = [int(record) for micro in step for record in micro][:8]
                whole = checkpoints.newest_complete(str(self.args.output_dir))
                raise TrainingError(
                    f"the loss became {logs['loss']} by step {self.state.global_step}",
                    got=f"the last step held records {records}",
                    expected=f"a finite loss; last good checkpoint: {whole.name if whole else 'none yet'}",
                    remedy="lower --learning-rate, or check margins and weights in the data",
                )
        super().log(logs, start_time)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Give the head its own learning rate."""
        module = self.model if model is None else model
        if getattr(self, "optimizer", None) is None:
            rate = self.args.head_learning_rate or self.args.learning_rate
            decayed = set(self.get_decay_parameter_names(module))
            groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault((name.startswith("head."), name in decayed), []).append(parameter)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, module)
            self.optimizer = kind(
                [
                    {
                        "params": parameters,
                        "weight_decay": self.args.weight_decay if decays else 0.0,
                        "lr": rate if head else self.args.learning_rate,
                    }
                    for (head, decays), parameters in groups.items()
                ],
                **options,
            )
        return self.optimizer

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the held-out share; report its loss and accuracy."""
        records = self.held_out
        if records is None or len(records.pairs) == 0:
            return {}
        dtype = torch.bfloat16 if self.args.bf16 else (torch.float16 if self.args.fp16 else None)
        values = score_records(cast(RewardModel, self.model), records, dtype=dtype, token_budget=self.args.token_budget)
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in held_out_metrics(records, values).items()}
        self.log(metrics)
        control: Any = self.control
        self.control = self.callback_handler.on_evaluate(self.args, self.state, control, metrics)
        return metrics

    def train(self, resume_from_checkpoint: Any = None, **options: Any) -> Any:
        """Train; ``resume_from_checkpoint=True`` goes on from the newest whole checkpoint, if there is one."""
        if resume_from_checkpoint is True:
            checkpoints.remove_torn(str(self.args.output_dir))
            newest = checkpoints.newest_complete(str(self.args.output_dir))
            resume_from_checkpoint = str(newest) if newest else None
        started = time.perf_counter()
        result = super().train(resume_from_checkpoint=resume_from_checkpoint, **options)
        self.seconds = time.perf_counter() - started
        return result

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = os.path.join(str(self.args.output_dir), f"checkpoint-{self.state.global_step}")
            checkpoints.mark_complete(folder)
            checkpoints.rotate(str(self.args.output_dir), self.args.keep_checkpoints, self.state.best_model_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        cast(RewardModel, self.model).load_weights(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        cast(RewardModel, self.model).load_weights(str(self.state.best_model_checkpoint))


def _only(items: Any) -> Any:
    return items[0]


def held_out_metrics(records: EncodedRecords, values: Any) -> dict[str, float]:
    """Return weighted loss (without margins, a device of training) and accuracy of scores, ties left out."""
    from assay.objectives import pairwise_loss

    margins = torch.from_numpy(records.margins(values))
    target, weight = torch.from_numpy(records.pairs.p), torch.from_numpy(records.pairs.w)
    judged = (target != 0.5) & (weight > 0)
    right = torch.where(margins == 0, 0.5, ((margins > 0) == (target > 0.5)).double())
    return {
        "loss": float(pairwise_loss(margins, target, 0.0, weight)),
        "accuracy": float(right[judged].mean()) if bool(judged.any()) else float("nan"),
    }
