"""A classifier that TRL trained: assay scores it as TRL does, and calibrating it helps on held-out judgements."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from assay.scorers import RewardModel
from tests.conftest import save_model
from tests.workflows.conftest import Cli, metrics_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trl_model(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path, many_pairs: Path) -> Path:
    """Train a plain classifier with TRL's RewardTrainer far enough to be too sure of itself."""
    pytest.importorskip("trl")
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, LlamaForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    from tests.conftest import llama_config

    folder = tmp_path_factory.mktemp("trl")
    tokenizer = AutoTokenizer.from_pretrained(tiny_causal)
    start = save_model(
        folder / "start", LlamaForSequenceClassification, llama_config(tokenizer, num_labels=1), tokenizer
    )
    rows = [json.loads(line) for line in many_pairs.read_text("utf-8").splitlines()][:130]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL and transformers about each other
        args = RewardConfig(
            output_dir=str(folder / "run"),
            max_steps=60,
            per_device_train_batch_size=16,
            learning_rate=3e-3,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            max_length=128,
            disable_tqdm=True,
        )
        model = LlamaForSequenceClassification.from_pretrained(start, dtype=torch.float32)
        trainer = RewardTrainer(model, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        tokenised = [trainer.train_dataset[index] for index in range(20)]
        trainer.train()
        trainer.save_model(str(folder / "trained"))
    tokenizer.save_pretrained(folder / "trained")
    (folder / "tokenised.json").write_text(json.dumps(tokenised), "utf-8")
    return folder / "trained"


def scores_of_trl(folder: Path) -> np.ndarray:
    """Score the first chosen texts from the very token ids that TRL trained on."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for row in json.loads((folder.parent / "tokenised.json").read_text("utf-8")):
        with torch.inference_mode():
            found.append(float(model(input_ids=torch.tensor([row["chosen_ids"]])).logits[0, 0]))
    return np.array(found)


def test_scores_are_those_of_trl(trl_model: Path, many_pairs: Path) -> None:
    rows = [json.loads(line) for line in many_pairs.read_text("utf-8").splitlines()][:20]
    ours = RewardModel.from_pretrained(trl_model).score([r["prompt"] for r in rows], [r["chosen"] for r in rows])
    np.testing.assert_allclose(ours, scores_of_trl(trl_model), atol=1e-5)


def test_calibration_helps_on_held_out_judgements(cli: Cli, trl_model: Path, many_pairs: Path) -> None:
    held_out = many_pairs.read_text("utf-8").splitlines()[130:]
    Path("held_out.jsonl").write_text("\n".join(held_out), "utf-8")
    said = cli("calibrate", trl_model, "held_out.jsonl", "--out", "calibrated")
    assert said.code == 0, said.err
    metrics = metrics_of(Path("calibrated"))
    assert metrics["after"]["nll"] < metrics["before"]["nll"]
    rows = [json.loads(line) for line in held_out]
    texts = ([row["prompt"] for row in rows], [row["chosen"] for row in rows])
    raw, kept = (RewardModel.from_pretrained(name).score(*texts) for name in (trl_model, "calibrated"))
    np.testing.assert_allclose(kept, raw, atol=1e-5)
    assert (np.argsort(raw, kind="stable") == np.argsort(kept, kind="stable")).all()
