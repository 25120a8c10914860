"""What a preference run can be told: the arguments of `transformers.Trainer`, and a few of its own."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from transformers import TrainingArguments

from assay.errors import ConfigError
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET

_PLANNED = "the plan decides what is in a step; set pairs_per_step and token_budget"
_WHEN = "held-out records are scored evaluations_per_epoch times an epoch"
_LAYERS = "blocks differ in shape; compile_layers compiles the layers of the backbone"
_BEST = "patience > 0 keeps the weights with the lowest held-out loss"

# Arguments of transformers that could do nothing here, or something else than they say.
_REFUSED = {
    "gradient_accumulation_steps": _PLANNED,
    "auto_find_batch_size": _PLANNED,
    "dataloader_drop_last": _PLANNED,
    "train_sampling_strategy": _PLANNED,
    "data_seed": "one seed decides every order; set seed",
    "ignore_data_skip": "a resumed run goes on with the step that comes next",
    "label_smoothing_factor": "the targets of the judgements say how sure they are",
    "neftune_noise_alpha": "texts are compared, so each must be encoded as it is",
    "eval_strategy": _WHEN,
    "eval_steps": _WHEN,
    "eval_delay": _WHEN,
    "eval_on_start": _WHEN,
    "per_device_eval_batch_size": "token_budget bounds evaluation too",
    "eval_accumulation_steps": "scores are moved to the host batch by batch",
    "bf16_full_eval": "evaluation computes in the precision of training",
    "fp16_full_eval": "evaluation computes in the precision of training",
    "batch_eval_metrics": "held-out loss and accuracy are the metrics",
    "include_for_metrics": "held-out loss and accuracy are the metrics",
    "load_best_model_at_end": _BEST,
    "metric_for_best_model": _BEST,
    "greater_is_better": _BEST,
    "save_total_limit": "set keep_checkpoints",
    "save_only_model": "a checkpoint that cannot be resumed would never count",
    "torch_compile": _LAYERS,
    "torch_compile_backend": _LAYERS,
    "torch_compile_mode": _LAYERS,
    "include_num_input_tokens_seen": "tokens are counted from the data",
}


@dataclass
class PreferenceArguments(TrainingArguments):
    """`transformers.TrainingArguments` with what a preference run needs.

    ``num_train_epochs`` is a whole number; ``max_steps`` may end the plan early. What transformers offers beside and
    could not be kept here (see `check_arguments`) is refused, never ignored.

    Attributes
    ----------
    pairs_per_step
        Judgements per optimiser step, over all ranks and micro-batches.
    token_budget
        Padded tokens per micro-batch on each rank.
    head_learning_rate
        Of the head, which starts from nothing; None: the same as the backbone's.
    evaluations_per_epoch
        How often the held-out share is scored, where there is one; always at the end of an epoch.
    patience
        Stop after this many evaluations without a better held-out loss, and keep the best weights, each in a
        checkpoint; 0: never stop early, keep the last.
    keep_checkpoints
        Whole checkpoints kept beside the best one.
    compile_layers
        Compile the layers of the backbone (see `assay.training.compiling`).
    """

    pairs_per_step: int = field(default=16)
    token_budget: int = field(default=DEFAULT_TOKEN_BUDGET)
    head_learning_rate: float | None = field(default=None)
    evaluations_per_epoch: int = field(default=2)
    patience: int = field(default=0)
    keep_checkpoints: int = field(default=2)
    compile_layers: bool = field(default=False)

    def __post_init__(self) -> None:
        # the model is called with the columns of a micro-batch, not of the data set
        self.remove_unused_columns = False
        # the filter reads the loss back from the device at every step, and hides the first bad one
        self.logging_nan_inf_filter = False
        super().__post_init__()


def check_arguments(args: PreferenceArguments, *, held_out: bool) -> PreferenceArguments:
    """Return a copy that the trainer may change.

    Raises
    ------
    ConfigError
        Naming every argument that is out of range, that could not be honoured, or that contradicts another.
    """
    problems = [f"{name}: {reason}" for name, reason in _problems(args, held_out)]
    if problems:
        raise ConfigError(
            "these training arguments cannot be followed",
            where="PreferenceArguments",
            got="; ".join(problems),
            remedy="change or leave out " + ", ".join(problem.split(":")[0] for problem in problems),
        )
    args = copy.copy(args)
    if args.n_gpu > 1:
        # DataParallel would cut texts and the edges between them apart; torchrun gives each GPU whole micro-batches
        args._n_gpu = 1
    # one item of the data loader is one optimiser step; its micro-batches are inside
    args.per_device_train_batch_size = 1
    return args


def _problems(args: PreferenceArguments, held_out: bool) -> Iterator[tuple[str, str]]:
    least = {"pairs_per_step": 1, "token_budget": 1, "evaluations_per_epoch": 1, "keep_checkpoints": 1, "patience": 0}
    for name, smallest in least.items():
        if getattr(args, name) < smallest:
            yield name, f"must be at least {smallest}, is {getattr(args, name)}"
    if args.head_learning_rate is not None and args.head_learning_rate < 0:
        yield "head_learning_rate", f"must not be negative, is {args.head_learning_rate}"
    if args.num_train_epochs < 1 or args.num_train_epochs != int(args.num_train_epochs):
        yield "num_train_epochs", f"must be a whole number, is {args.num_train_epochs}; max_steps ends a run earlier"
    if args.patience > 0 and not held_out:
        yield "patience", "needs held-out judgements to look at"
    if args.patience > 0 and args.save_strategy == "no":
        yield "patience", "keeps the best weights in a checkpoint, which save_strategy='no' forbids"
    recomputes = getattr(args, "activation_checkpointing", False) or getattr(args, "gradient_checkpointing", False)
    if args.compile_layers and recomputes:
        yield "compile_layers", "would have no effect: torch does not compile layers that are recomputed; choose one"
    if args.per_device_train_batch_size not in (1, 8):  # 8 is what transformers sets where nobody did
        yield "per_device_train_batch_size", _PLANNED
    known = {entry.name: entry for entry in dataclasses.fields(args)}
    for name, reason in _REFUSED.items():
        if name in known and getattr(args, name) != _default(known[name]):
            yield name, reason


def _default(entry: dataclasses.Field[object]) -> object:
    if entry.default_factory is not dataclasses.MISSING:
        return entry.default_factory()
    return entry.default
