"""What all training here shares: steps in planned order, losses that must be finite, checkpoints that are whole."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback

from assay.errors import AssayError
from assay.training import checkpoints
from assay.training.compiling import compiled_layers

_NEVER = 2**62


class TrainingError(AssayError):
    """Raised when training cannot go on: the loss is no longer a number."""


class PlannedTrainer(Trainer):
    """A ``transformers.Trainer`` whose data set holds one item per optimiser step.

    Parameters
    ----------
    model
        What is trained.
    args
        ``keep_checkpoints`` says how many whole ones are kept.
    steps
        Its item ``s`` is all that step ``s`` needs.
    digest
        Names the plan: a checkpoint of another one is refused.
    callbacks
        Passed to `transformers.Trainer`.
    """

    def __init__(
        self, model: nn.Module, args: Any, steps: Dataset[Any], digest: str, callbacks: list[TrainerCallback]
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=steps, data_collator=_only, callbacks=callbacks)
        self.remove_callback(PrinterCallback)
        # our loss is already divided by the weight of the whole step
        self.loss_is_scaled_for_ga = True
        self.digest = digest
        self.seconds = 0.0
        self._first_bad = torch.full((), _NEVER, device=self.args.device)

    def get_train_dataloader(self) -> DataLoader:
        """Return this rank's steps in planned order; the plan has dealt the ranks, so accelerate must not."""
        data, args = cast(Any, self.train_dataset), self.args
        return DataLoader(
            data,
            batch_size=1,
            sampler=SequentialSampler(cast(Sized, data)),
            collate_fn=_only,
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            persistent_workers=args.dataloader_persistent_workers,
            pin_memory=args.dataloader_pin_memory and args.device.type == "cuda",
        )

    def held_at(self, step: int) -> str:
        """Say what a step learned from, for messages."""
        raise NotImplementedError

    def watch(self, loss: Tensor) -> None:
        """Note whether the loss of the step that is under way is a number; nothing waits for the device."""
        step = self.state.global_step + 1
        self._first_bad = torch.where(torch.isfinite(loss), self._first_bad, self._first_bad.clamp_max(step))

    def accumulate(self, model: nn.Module, batches: Sequence[Any], loss_of: Callable[[Any], Tensor]) -> Tensor:
        """Run the micro-batches of one optimiser step, and watch its loss, which is returned."""
        total = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(batches):
            batch = self._prepare_inputs(batch)
            last = number == len(batches) - 1
            self.accelerator.sync_gradients = last  # DeepSpeed takes the optimiser's step inside its backward pass
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model=model):
                with self.compute_loss_context_manager():
                    loss = loss_of(batch)
                self.accelerator.backward(loss)
            total += loss.detach()
        self.watch(total)
        return total

    def refuse_not_finite(self, logs: dict[str, float]) -> None:
        """Stop where a loss that was logged is no number."""
        for name in ("loss", "train_loss", "eval_loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                self._stop_diverged(name, logs[name])

    def _stop_diverged(self, name: str, value: float) -> None:
        """Raise, naming the first step whose loss was no number, what was in it, and what can be gone back to."""
        step = min(int(self.accelerator.gather(self._first_bad.reshape(1)).min()), self.state.global_step)
        whole = checkpoints.newest_complete(str(self.args.output_dir))
        raise TrainingError(
            f"{name} became {value} at step {step}",
            got=f"step {step} held {self.held_at(max(step, 1))}",
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

    def rate_of(self, name: str) -> float:
        """Return the learning rate of a parameter."""
        return float(self.args.learning_rate)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Give each parameter its own learning rate."""
        module = self.model if model is None else model
        if getattr(self, "optimizer", None) is None:
            decayed = set(self.get_decay_parameter_names(module))
            groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault((self.rate_of(name), name in decayed), []).append(parameter)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, module)
            self.optimizer = kind(
                [
                    {"params": parameters, "weight_decay": self.args.weight_decay if decays else 0.0, "lr": rate}
                    for (rate, decays), parameters in groups.items()
                ],
                **options,
            )
        return self.optimizer

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
            checkpoints.check_resumable(resume_from_checkpoint, self.digest)
        started = time.perf_counter()
        with compiled_layers(self.model) if self.args.compile_layers else contextlib.nullcontext():
            result = super().train(resume_from_checkpoint=resume_from_checkpoint or None, **options)
        self._check_finite()
        self.seconds = time.perf_counter() - started
        return result

    def keep_more(self, folder: str) -> None:
        """Write what a checkpoint must hold beside weights, optimiser and schedule."""

    def restore_more(self, folder: str) -> None:
        """Take over what `keep_more` wrote."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._check_finite()
        folder = os.path.join(str(self.args.output_dir), f"checkpoint-{self.state.global_step}")
        if self.args.should_save:
            checkpoints.unmark(folder)
        super()._save_checkpoint(model, trial)
        # the marker says that every rank has written its part
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.keep_more(folder)
            checkpoints.mark_complete(folder, self.digest)
            checkpoints.rotate(str(self.args.output_dir), self.args.keep_checkpoints, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if hasattr(self.model, "load_weights") and not self.is_fsdp_enabled:
            self.model.load_weights(resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.restore_more(resume_from_checkpoint)


def _only(items: Any) -> Any:
    return items[0]
