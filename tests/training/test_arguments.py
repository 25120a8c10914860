"""No option is accepted and then ignored: each changes something, or is refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from transformers import TrainingArguments

from assay.errors import ConfigError
from assay.scorers import LoraOptions
from assay.training import PairwiseObjective, PreferenceArguments
from assay.training.arguments import _REFUSED, check_arguments
from assay.workflows.model_settings import OptimiserSettings, Schedule
from tests.training.support import arguments, assert_equal, new_model, planted, trainer_for, weights


def refusal(out: Path, *, held_out: bool = False, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_arguments(arguments(out, **changes), held_out=held_out)
    return str(caught.value)


def test_every_refused_argument_still_exists() -> None:
    known = {entry.name for entry in fields(TrainingArguments)}
    gone = set(_REFUSED) - known
    assert gone <= {"group_by_length"}, f"transformers no longer has {gone}"


@pytest.mark.parametrize(
    "change",
    [
        {"gradient_accumulation_steps": 4},
        {"torch_compile_backend": "eager"},
        {"per_device_train_batch_size": 16},
        {"auto_find_batch_size": True},
        {"dataloader_drop_last": True},
        {"data_seed": 1},
        {"label_smoothing_factor": 0.1},
        {"neftune_noise_alpha": 5.0},
        {"eval_delay": 2},
        {"per_device_eval_batch_size": 2},
        {"save_total_limit": 3},
        {"save_only_model": True},
        {"metric_for_best_model": "eval_accuracy"},
        {"num_train_epochs": 1.5},
        {"num_train_epochs": 0},
        {"pairs_per_step": 0},
        {"token_budget": 0},
        {"evaluations_per_epoch": 0},
        {"keep_checkpoints": 0},
        {"patience": -1},
        {"head_learning_rate": -1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_be_followed_is_refused(out: Path, change: dict[str, Any]) -> None:
    message = refusal(out, **change)
    assert next(iter(change)) in message
    assert "try:" in message


def test_all_problems_are_named_at_once(out: Path) -> None:
    message = refusal(out, pairs_per_step=0, save_total_limit=3, data_seed=5)
    assert all(name in message for name in ("pairs_per_step", "save_total_limit", "data_seed"))


def test_patience_needs_something_to_look_at_and_somewhere_to_keep_the_best(out: Path) -> None:
    assert "needs held-out judgements" in refusal(out, patience=1, save_strategy="steps")
    assert "save_strategy='no'" in refusal(out, patience=1, held_out=True)
    check_arguments(arguments(out, patience=1, save_strategy="steps"), held_out=True)


def test_what_was_given_stays_as_it_was(out: Path) -> None:
    given = arguments(out)
    before = dict(vars(given))
    trainer_args = check_arguments(given, held_out=False)
    trainer_args.max_steps = 7
    assert vars(given) == before


def test_several_gpus_in_one_process_do_not_cut_a_batch_apart(out: Path) -> None:
    given = arguments(out)
    assert given.n_gpu <= 1
    given._n_gpu = 2
    assert check_arguments(given, held_out=False).n_gpu == 1


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_every_schedule_of_the_command_line_trains(schedule: str, llama: str, out: Path) -> None:
    trainer = trainer_for(new_model(llama), planted(12), out, lr_scheduler_type=schedule, warmup_steps=0.1)
    trainer.train()
    assert trainer.state.global_step == len(trainer.plan)


def test_one_set_of_arguments_serves_two_trainers(llama: str, out: Path) -> None:
    from assay.training import PreferenceTrainer
    from assay.training.records import TrainingRecords
    from tests.training.support import encoded

    given = arguments(out)
    for records in (9, 30):
        model = new_model(llama)
        trainer = PreferenceTrainer(model, given, TrainingRecords(encoded(model, planted(records))))
        trainer.train()
        assert trainer.state.global_step == len(trainer.plan)


def test_max_steps_ends_the_plan_and_cannot_exceed_it(llama: str, out: Path) -> None:
    trainer = trainer_for(new_model(llama), planted(30), out, max_steps=3)
    trainer.train()
    assert trainer.state.global_step == 3
    with pytest.raises(ConfigError, match="beyond the end of the plan"):
        trainer_for(new_model(llama), planted(30), out, max_steps=6)


def final(llama: str, out: Path, **changes: Any) -> dict[str, torch.Tensor]:
    model = new_model(llama)
    trainer_for(model, planted(24), out, **changes).train()
    return weights(model)


@pytest.fixture(scope="module")
def plain(llama: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return final(llama, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "change",
    [
        {"pairs_per_step": 4},
        {"seed": 4},
        {"num_train_epochs": 2},
        {"learning_rate": 2e-3},
        {"head_learning_rate": 1e-2},
        {"weight_decay": 0.5},
        {"warmup_steps": 2},
        {"lr_scheduler_type": "constant"},
        {"max_grad_norm": 0.01},
        {"bf16": True},
        {"optim": "sgd"},
        {"centring": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_of_these_changes_the_weights(
    llama: str, out: Path, plain: dict[str, torch.Tensor], change: dict[str, Any]
) -> None:
    found = final(llama, out, **change)
    assert any(not torch.equal(found[name], plain[name]) for name in plain)
    assert all(value.dtype == torch.float32 for value in found.values())


def test_a_head_learning_rate_of_zero_is_zero(llama: str, out: Path) -> None:
    assert float(final(llama, out, head_learning_rate=0.0)["head.weight"].abs().max()) == 0.0


@pytest.mark.parametrize("change", [{"token_budget": 60}, {"dataloader_num_workers": 1}], ids=lambda c: next(iter(c)))
def test_each_of_these_changes_nothing_but_speed(
    llama: str, out: Path, plain: dict[str, torch.Tensor], change: dict[str, Any]
) -> None:
    # Adam's first steps divide gradients by their own size, which magnifies rounding where they are almost 0
    assert_equal(final(llama, out, **change), plain, 2e-4)


def recomputing(wanted: bool) -> dict[str, Any]:
    known = {entry.name for entry in fields(PreferenceArguments)}
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    return {name: wanted}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "lora"])
def test_gradient_checkpointing_runs_layers_twice_and_gives_equal_weights(
    kind: str, request: pytest.FixtureRequest, out: Path
) -> None:
    found, calls = [], []
    for wanted in (False, True):
        lora = LoraOptions(rank=2) if kind == "lora" else None
        model = new_model(request.getfixturevalue("llama" if lora else kind), lora=lora)
        # found out once, by calls that are not counted
        assert model.row_layout.shares == (kind != "bert")
        attention = next(m for n, m in model.backbone.named_modules() if n.endswith(("self_attn", "attn", "attention")))
        count = [0]
        attention.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        trainer_for(model, planted(12), out, **recomputing(wanted)).train()
        found.append(weights(model))
        calls.append(count[0])
    assert calls[1] == 2 * calls[0] > 0
    assert_equal(found[0], found[1])


def test_bf16_computes_the_backbone_in_bf16_and_the_loss_in_fp32(llama: str, out: Path) -> None:
    model, seen = new_model(llama), set()
    assert model.row_layout.shares  # found out once, in the precision of the weights
    layer = next(m for n, m in model.backbone.named_modules() if n.endswith("q_proj"))
    layer.register_forward_hook(lambda *a: seen.add(a[-1].dtype))
    trainer = trainer_for(model, planted(12), out, bf16=True)

    class Watched(PairwiseObjective):
        def __call__(self, output: Any, batch: Any) -> torch.Tensor:
            seen.add(("margins", output["margins"].dtype))
            return super().__call__(output, batch)

    trainer.objective = Watched()
    trainer.train()
    assert seen == {torch.bfloat16, ("margins", torch.float32)}


@pytest.mark.parametrize("name", ["pairs_per_step", "token_budget", "evaluations_per_epoch"])
def test_the_command_line_has_the_same_defaults(name: str, out: Path) -> None:
    assert OptimiserSettings.model_fields[name].default == getattr(arguments_of_nobody(out), name)


def arguments_of_nobody(out: Path) -> PreferenceArguments:
    return PreferenceArguments(output_dir=str(out), report_to="none", use_cpu=True)
