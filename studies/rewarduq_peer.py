"""The MLP ensemble of `rewarduq` on given features; runs where that package is installed, and knows nothing of assay.

    python studies/rewarduq_peer.py FOLDER

FOLDER holds ``features.npy`` ``[texts, d]`` and ``jobs.json``: a list of ``seed``, ``steps``, ``rate``, ``taught``
(pairs of texts, the better one first) and ``tested`` (pairs of texts). ``margins.json`` is written there: a list of
margins per job.
Its own model, loss and trainer with their defaults (20 heads of three layers, drawn to their first weights), batches of
16; features take the place of its backbone, as where it computes them beforehand.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]


def backbone(width: int, folder: Path) -> str:
    """Write a tiny model of that width, which is loaded and never called."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)
    made.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    made.save_pretrained(folder)
    shape = {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "max_position_embeddings": 16}
    BertModel(BertConfig(vocab_size=len(WORDS), hidden_size=width, **shape)).save_pretrained(folder)
    return str(folder)


def margins_of(job: dict[str, Any], features: np.ndarray, base: str) -> list[float]:
    """Train one ensemble; return its margins of the tested pairs."""
    import torch
    from datasets import Dataset
    from rewarduq.methods.mlp_head_ensemble import (
        MLPHeadEnsembleModel,
        MLPHeadEnsembleModelConfig,
        MLPHeadEnsembleTrainer,
        MLPHeadEnsembleTrainerConfig,
    )
    from transformers import set_seed

    set_seed(job["seed"])
    model = MLPHeadEnsembleModel(MLPHeadEnsembleModelConfig(base_model_name_or_path=base))
    chosen, rejected = np.array(job["taught"]).T
    data = Dataset.from_dict(
        {
            "prompt": ["a"] * len(chosen),
            "chosen": ["a"] * len(chosen),
            "rejected": ["b"] * len(chosen),
            "chosen_features": features[chosen].tolist(),
            "rejected_features": features[rejected].tolist(),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        args = MLPHeadEnsembleTrainerConfig(
            output_dir=folder,
            max_steps=job["steps"],
            learning_rate=job["rate"],
            per_device_train_batch_size=16,
            precompute_features=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            seed=job["seed"],
        )
        MLPHeadEnsembleTrainer(model=model, args=args, train_dataset=data, processing_class=model.tokenizer).train()
    model.eval()
    with torch.no_grad():
        scores = model(features=torch.from_numpy(features))["rewards"][:, 0].numpy()
    a, b = np.array(job["tested"]).T
    return [round(float(margin), 5) for margin in scores[a] - scores[b]]


def main() -> None:
    """Run all jobs of a folder."""
    import datasets
    import torch

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore")
    folder = Path(sys.argv[1])
    features = np.load(folder / "features.npy")
    with tempfile.TemporaryDirectory() as place:
        base = backbone(features.shape[1], Path(place))
        found = [margins_of(job, features, base) for job in json.loads((folder / "jobs.json").read_text())]
    (folder / "margins.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
