"""The one preference trainer: a ``transformers.Trainer`` for any scorer, fed by a plan."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from transformers import TrainerCallback

from assay.errors import ConfigError
from assay.scorers.encoding import score_records
from assay.scorers.heads import Head
from assay.scorers.layout import Layout, overhead_on
from assay.scorers.policy import Policy
from assay.scorers.reading import ReadingMixin
from assay.scorers.reward_model import RewardModel
from assay.training import schedule
from assay.training.after_step import after_each_step
from assay.training.arguments import PreferenceArguments, check_arguments
from assay.training.compiling import check_compilable
from assay.training.data import PlannedSteps, source_of
from assay.training.held_out import held_out_metrics
from assay.training.meta import StepRule
from assay.training.objective import Objective, PairwiseObjective
from assay.training.plan import plan_batches
from assay.training.planned import PlannedTrainer
from assay.training.records import TrainingRecords
from assay.training.references import load_reference, save_reference
from assay.training.sharding import is_sharded, keep_scores_whole, refuse_zero_3

_FED = ("rows", "order", "features", "edges", "prompts", "owners", "classes")


class PreferenceTrainer(PlannedTrainer):
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
        steps = PlannedSteps(self.plan, source, args.process_index)
        super().__init__(model, args, steps, self.plan.digest(), callbacks)
        refuse_zero_3()
        if self.is_fsdp_enabled:
            keep_scores_whole(self.accelerator.state.fsdp_plugin)
        self._sums = torch.zeros(2, device=self.args.device)
        backbone = getattr(model, "backbone", None)
        self._shared = backbone is not None and any(p.requires_grad for p in backbone.parameters())

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run the micro-batches of one optimiser step; return the loss of the step."""
        model.train()
        weight = inputs["weight"].to(self.args.device)
        # All weights of a step 0: nothing is learned and nothing divides by zero. Distributed wrappers average over
        # ranks.
        scale = torch.where(weight > 0, self.args.world_size / weight.clamp_min(1e-30), torch.zeros_like(weight))
        step = self.state.global_step + 1
        with contextlib.nullcontext() if self.step_rule is None else self.step_rule(self, model, step):
            return self.accumulate(model, inputs["batches"], lambda batch: self.compute_loss(model, batch, scale=scale))

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
        if self.objective.prefixes:
            fed["prefixes"] = True
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
        self.refuse_not_finite(logs)
        super().log(logs, start_time)

    def held_at(self, step: int) -> str:
        """Name the records of a step."""
        records = sorted(int(r) for rank in self.plan.steps[step - 1] for micro in rank for r in micro)
        return f"the records {records[:8]}{' and more' if len(records) > 8 else ''}"

    def rate_of(self, name: str) -> float:
        """Give the head its own learning rate."""
        head = self.args.head_learning_rate
        return float(head if head is not None and name.startswith("head.") else self.args.learning_rate)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Leave out what a head says that weight decay must not touch."""
        head = getattr(model, "head", None)
        spared = {f"head.{name}" for name in head.undecayed} if isinstance(head, Head) else set()
        return [name for name in super().get_decay_parameter_names(model) if name not in spared]

    def keep_more(self, folder: str) -> None:
        """Keep a reference that follows the policy."""
        save_reference(self.model, folder)

    def restore_more(self, folder: str) -> None:
        """Restore a reference that follows the policy."""
        load_reference(self.model, folder)

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
