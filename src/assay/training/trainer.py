"""The one preference trainer: a ``transformers.Trainer`` for any scorer, fed by a plan."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback

from assay.errors import AssayError, ConfigError
from assay.scorers.encoding import score_records
from assay.scorers.heads import Head
from assay.scorers.layout import Layout, overhead_on
from assay.scorers.policy import Policy
from assay.scorers.reading import ReadingMixin
from assay.scorers.reward_model import RewardModel
from assay.training import checkpoints, schedule
from assay.training.after_step import after_each_step
from assay.training.arguments import PreferenceArguments, check_arguments
from assay.training.compiling import check_compilable, compiled_layers
from assay.training.data import PlannedSteps, source_of
from assay.training.held_out import held_out_metrics
from assay.training.meta import StepRule
from assay.training.objective import Objective, PairwiseObjective
from assay.training.plan import plan_batches
from assay.training.records import TrainingRecords
from assay.training.references import load_reference, save_reference
from assay.training.sharding import is_sharded, keep_scores_whole, refuse_zero_3

_NEVER = 2**62
_FED = ("rows", "order", "features", "edges", "prompts", "owners", "classes")


class TrainingError(AssayError):
    """Raised when training cannot go on: the loss is no longer a number."""


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
    step_rule
        Where the gradient of a step is taken; None: at the weights as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        args: PreferenceArguments,
        train: TrainingRecords,
        held_out: TrainingRecords | None = None,
        objective: Objective | None = None,
        callbacks: list[TrainerCallback] | None = None,
        step_rule: StepRule | None = None,
    ) -> None:
        objective = objective or PairwiseObjective()
        judged = held_out is not None and bool((objective.items(held_out)[1] > 0).any())
        args = check_arguments(args, held_out=judged)
        if args.compile_layers:
            check_compilable(model)
        layout = _layout_for(model, args)
        source = source_of(train, layout, args.token_budget, objective.items(train))
        plan = plan_batches(
            source.sizes(),
            epochs=int(args.num_train_epochs),
            pairs_per_step=args.pairs_per_step,
            token_budget=args.token_budget,
            seed=args.seed,
            world_size=args.world_size,
            layout=layout,
        )
        if args.max_steps > len(plan):
            raise ConfigError(
                "max_steps is beyond the end of the plan",
                expected=f"at most {len(plan)}, which is {len(plan.epoch_ends)} epochs",
                got=str(args.max_steps),
                remedy="raise num_train_epochs",
            )
        self.plan = plan.first(args.max_steps) if args.max_steps > 0 else plan
        args.max_steps = len(self.plan)
        self.train_records, self.held_out = train, held_out if judged else None
        self.objective, self.step_rule = objective, step_rule
        callbacks = [*(callbacks or []), *after_each_step(model)]
        if judged:
            callbacks.insert(0, schedule.PlannedEvaluation(self.plan.evaluation_steps(args.evaluations_per_epoch)))
        if args.patience > 0:
            args.load_best_model_at_end, args.metric_for_best_model, args.greater_is_better = True, "eval_loss", False
        super().__init__(
            model=model,
            args=args,
            train_dataset=PlannedSteps(self.plan, source, args.process_index),
            data_collator=_only,
            callbacks=callbacks,
        )
        refuse_zero_3()
        if self.is_fsdp_enabled:
            keep_scores_whole(self.accelerator.state.fsdp_plugin)
        self.remove_callback(PrinterCallback)
        # our loss is already divided by the weight of the whole step
        self.loss_is_scaled_for_ga = True
        self._sums = torch.zeros(2, device=self.args.device)
        self._first_bad = torch.full((), _NEVER, device=self.args.device)
        backbone = getattr(model, "backbone", None)
        self._shared = backbone is not None and any(p.requires_grad for p in backbone.parameters())
        self.seconds = 0.0

    def get_train_dataloader(self) -> DataLoader:
        """Return this rank's steps in planned order; the plan has dealt the ranks, so accelerate must not."""
        data, args = cast(PlannedSteps, self.train_dataset), self.args
        return DataLoader(
            data,
            batch_size=1,
            sampler=SequentialSampler(data),
            collate_fn=_only,
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            persistent_workers=args.dataloader_persistent_workers,
            pin_memory=args.dataloader_pin_memory and args.device.type == "cuda",
        )

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
        step = self.state.global_step + 1
        with contextlib.nullcontext() if self.step_rule is None else self.step_rule(self, model, step):
            for number, batch in enumerate(batches):
                batch = self._prepare_inputs(batch)
                last = number == len(batches) - 1
                self.accelerator.sync_gradients = last  # DeepSpeed takes the optimiser's step inside its backward pass
                with contextlib.nullcontext() if last else self.accelerator.no_sync(model=model):
                    with self.compute_loss_context_manager():
                        loss = self.compute_loss(model, batch, scale=scale)
                    self.accelerator.backward(loss)
                total += loss.detach()
        self._first_bad = torch.where(torch.isfinite(total), self._first_bad, self._first_bad.clamp_max(step))
        return total

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], scale: Tensor | float = 1.0, **_: Any
    ) -> Tensor:
        """Return the loss of one micro-batch times ``scale``.

        Members that share nothing are added up; where they share a backbone that trains, it learns from their mean.
        """
        names = (*_FED, "reference") if getattr(self.model, "reads_replies", False) else _FED
        fed: dict[str, Any] = {name: inputs[name] for name in names if name in inputs}
        if self.objective.views > 1:
            fed["views"] = self.objective.views
        if self.objective.likelihoods:
            fed["likelihoods"] = True
        output = model(**fed)
        self._count(output["margins"].detach(), inputs)
        losses = self.objective(output, inputs) * scale  # type: ignore[arg-type]
        return losses.mean() if self._shared else losses.sum()

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
            right, judged = self.accelerator.reduce(self._sums, "sum").tolist()
            self._sums.zero_()
            if judged:
                logs["accuracy"] = right / judged
        for name in ("loss", "train_loss", "eval_loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                self._stop_diverged(name, logs[name])
        super().log(logs, start_time)

    def _stop_diverged(self, name: str, value: float) -> None:
        """Raise, naming the first step whose loss was no number, its records, and what can be gone back to."""
        step = min(int(self.accelerator.gather(self._first_bad.reshape(1)).min()), self.state.global_step)
        records = [int(r) for rank in self.plan.steps[max(step, 1) - 1] for micro in rank for r in micro]
        whole = checkpoints.newest_complete(str(self.args.output_dir))
        raise TrainingError(
            f"{name} became {value} at step {step}",
            got=f"step {step} held the records {sorted(records)[:8]}{' and more' if len(records) > 8 else ''}",
            expected=f"a finite number; last good checkpoint: {whole.name if whole else 'none yet'}",
            remedy="lower the learning rate, or check margins and weights in the data",
        )

    def _check_finite(self) -> None:
        """Look at losses since the last report and at all weights; called where waiting for the device is no loss."""
        # each rank looks at the part that it holds
        trained: list[Any] = [p.detach() for p in self.model.parameters() if p.requires_grad]
        weights = [(p.to_local() if hasattr(p, "to_local") else p).isfinite().all() for p in trained]
        finite = torch.stack(weights).all() if weights else torch.ones((), dtype=torch.bool)
        found = torch.stack([self._first_bad, finite.to(self._first_bad)]).unsqueeze(0)
        # every rank must come to the same end
        first_bad, finite = self.accelerator.gather(found).min(dim=0).values.tolist()
        if first_bad != _NEVER or not finite:
            self._stop_diverged("loss" if first_bad != _NEVER else "a weight", math.nan)

    def _get_grad_norm(self, model: nn.Module, grad_norm: float | None = None) -> float | None:
        """Leave out the norm of gradients that are not clipped: for heads it takes as long as their update."""
        return super()._get_grad_norm(model, grad_norm) if self.args.max_grad_norm else None

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Leave out what a head says that weight decay must not touch."""
        head = getattr(model, "head", None)
        spared = {f"head.{name}" for name in head.undecayed} if isinstance(head, Head) else set()
        return [name for name in super().get_decay_parameter_names(model) if name not in spared]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Give the head its own learning rate."""
        module = self.model if model is None else model
        if getattr(self, "optimizer", None) is None:
            head_rate = self.args.head_learning_rate
            rate = self.args.learning_rate if head_rate is None else head_rate
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
        """Score the held-out share; report its loss and accuracy, and during training decide whether to go on."""
        records = self.held_out
        if records is None:
            return {}
        dtype = torch.bfloat16 if self.args.bf16 else (torch.float16 if self.args.fp16 else None)
        model, budget = cast(RewardModel, self.model), self.args.token_budget
        # what was compiled for training would be compiled again for a few passes without gradients
        with torch.compiler.set_stance("force_eager"):
            known = records.reference if model.reads_replies else None
            values = score_records(model, records.records, dtype=dtype, token_budget=budget, reference=known)
        found = held_out_metrics(records, values, self.objective)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        # ranks must agree on when to stop, to the last bit
        metrics = broadcast_object_list([metrics])[0]
        self.log(metrics)
        state: Any = self
        self.control = self.callback_handler.on_evaluate(self.args, state.state, state.control, metrics)
        if self.is_in_train and self.args.patience > 0:
            self._keep_or_stop()
        return metrics

    def _keep_or_stop(self) -> None:
        """Save the best weights so far; without better ones for long enough, stop."""
        since = schedule.evaluations_since_best(schedule.held_out_losses(self.state))
        if since == 0:
            self.control.should_save = True
        elif since >= self.args.patience:
            self.control.should_training_stop = True
            # so every checkpoint is one to go on from: a run killed after this decides it again
            self.control.should_save = False

    def train(self, resume_from_checkpoint: Any = None, **options: Any) -> Any:
        """Train; ``resume_from_checkpoint=True`` goes on from the newest whole checkpoint, if there is one.

        Raises
        ------
        TrainingError
            If a loss or a weight is no longer a number; no checkpoint ever holds such weights.
        OutputError
            If a checkpoint belongs to another run, or is torn.
        """
        folder = str(self.args.output_dir)
        if resume_from_checkpoint is True:
            if self.args.should_save:
                checkpoints.remove_torn(folder)
            self.accelerator.wait_for_everyone()
            resume_from_checkpoint = checkpoints.newest_complete(folder)
        elif not resume_from_checkpoint and self.args.save_strategy != "no":
            checkpoints.check_unused(folder)
        if resume_from_checkpoint:
            resume_from_checkpoint = os.fspath(resume_from_checkpoint)
            checkpoints.check_resumable(resume_from_checkpoint, self.plan.digest())
        started = time.perf_counter()
        with compiled_layers(self.model) if self.args.compile_layers else contextlib.nullcontext():
            result = super().train(resume_from_checkpoint=resume_from_checkpoint or None, **options)
        self._check_finite()
        self.seconds = time.perf_counter() - started
        return result

    def gathered(self, fresh: Callable[[], RewardModel]) -> nn.Module | None:
        """Return the trained model whole, at the end of training; every rank must ask.

        Where ranks hold parts of the weights it is a new one, which ``fresh`` makes, on the first rank; None on others.
        """
        if not self.is_fsdp_enabled:
            return cast(nn.Module, self.model)
        state = self.accelerator.get_state_dict(self.model_wrapped)
        if not self.args.should_save:
            return None
        model = fresh()
        model.load_state_dict(state)
        return model.to(self.args.device)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._check_finite()
        folder = os.path.join(str(self.args.output_dir), f"checkpoint-{self.state.global_step}")
        if self.args.should_save:
            checkpoints.unmark(folder)
        super()._save_checkpoint(model, trial)
        # the marker says that every rank has written its part
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            save_reference(self.model, folder)
            checkpoints.mark_complete(folder, self.plan.digest())
            checkpoints.rotate(str(self.args.output_dir), self.args.keep_checkpoints, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if hasattr(self.model, "load_weights") and not self.is_fsdp_enabled:
            self.model.load_weights(resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        load_reference(self.model, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if hasattr(self.model, "load_weights") and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            self.model.load_weights(str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()


def _layout_for(model: nn.Module, args: PreferenceArguments) -> Layout:
    """Return how the texts of a model are laid out where it trains."""
    sharded = is_sharded(args)
    if isinstance(model, ReadingMixin):
        if sharded and isinstance(model, Policy):
            raise ConfigError(
                "a policy cannot be trained in shards yet",
                expected="whole weights in every process (DDP)",
                remedy="choose a configuration without FSDP, or --lora",
            )
        model.sharded = sharded
        if not sharded:
            model.to(args.device)  # what its attention can do there decides the layout
    layout = getattr(model, "row_layout", Layout())
    return replace(layout, overhead_tokens=overhead_on(args.device), at_once=sharded)


def _only(items: Any) -> Any:
    return items[0]
