"""What `policies` works on: graded data that fits a small policy, and the policy that learning from it begins with."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import FOLDS
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from assay.config import build
from assay.feedback import as_chat, comparison, folds, from_rows, prompt_text, read
from assay.feedback.records import Edge, edge
from assay.feedback.splitting import split
from assay.scorers import Policy, PolicyOptions, create_policy, create_reward_model
from assay.scorers.sampling import Sampling, replies
from assay.workflows.aligning import fit_policy
from assay.workflows.data import Shares
from assay.workflows.fitting import fit
from assay.workflows.options import model_options, policy_options, resolved
from assay.workflows.policy_references import compared
from assay.workflows.policy_settings import AlignSettings
from assay.workflows.settings import TrainSettings

GRADED = {"prompt": "prompt", "responses": "response", "grades": "grades"}
#: Story openings; of each, tokens that are the prompt, and tokens of the responses.
OPENINGS, OPENING, STORY = 900, 24, 64
#: Standard deviation of what who grades a story adds to its gold score, whose own is 1.
NOISE = 0.7
GLAD = ("They were all very happy and played together.", "Everyone smiled and hugged. It was the best day.")
SAD = ("She was very sad and cried all alone.", "He was hurt and scared. It was a terrible day.")


@dataclass(frozen=True)
class World:
    """A set in one division into training and test, and what belongs to it.

    Attributes
    ----------
    train, test
        Graded comparisons; no group is in both.
    begin
        Folder of the policy that learning begins with.
    judge
        A reward model that trained no policy: of the held-out ratings, or the gold scorer itself.
    template
        How prompt and response are joined.
    new
        Tokens of the longest response.
    """

    train: Dataset
    test: Dataset
    begin: str
    judge: Any
    template: str
    new: int


def descriptions(data: Path, seed: int, scratch: Path) -> World:
    """Divide rated descriptions of data by the pattern of what they say; train a policy on references from scratch.

    The policy is a Llama of 0.9 million weights over 1,024 pieces found in the training references.
    """
    read_as = GRADED | {"group": "prompt"}
    records = read(str(data / "d2t_ratings"), mapping=read_as)
    pattern = [re.sub(r"=('[^']*'|[^,;)]*)", "", prompt_text(row)) for row in records["prompt"]]
    records = records.remove_columns("split_group").add_column("split_group", pattern)
    train, test = folds(records, FOLDS, seed=0)[seed % FOLDS]
    folder = scratch / "backbone"
    _small_llama(train, folder)
    learned = [
        comparison(as_chat(row["prompt"]), said, split_group=row["split_group"], grades=_good(len(said)))
        for row in train
        if (said := references(row["meta"]))
    ]
    begin = trained(from_rows(learned), scratch / "sft", seed, backbone=str(folder), learning_rate=2e-3, epochs=30)
    return World(train, test, begin, ratings_judge(test, seed, scratch), "pair", 48)


def stories(data: Path, seed: int, scratch: Path) -> World:
    """Let a small story model write; grades are a gold score with noise, and verdicts follow the grades.

    Gold is how glad a story is: its MiniLM vector along the difference of glad and sad sentences, standardised. The
    story model as it came is where learning begins.
    """
    name = str(data / "stories260K" / "hf")
    policy = create_policy(PolicyOptions(name, template="plain"))
    begun = replies(policy, [""] * OPENINGS, Sampling(1, OPENING), seed)
    prompts = sorted({own[0].text for own in begun if not own[0].ended and own[0].text.strip()})
    written = replies(policy, prompts, Sampling(2, STORY), seed + 1)
    gold = Gold()
    texts = [[reply.text for reply in own] for own in written]
    scores = gold.score([p for p in prompts for _ in range(2)], [t for own in texts for t in own])
    gold.mean, gold.spread = float(scores.mean()), float(scores.std())
    random, rows = np.random.default_rng(seed), []
    for prompt, own, score in zip(prompts, texts, ((scores - gold.mean) / gold.spread).reshape(-1, 2), strict=True):
        if own[0] == own[1] or not all(text.strip() for text in own):
            continue
        noisy = score + NOISE * random.normal(size=2)
        verdict: list[Edge] = [edge(0, 1) if noisy[0] > noisy[1] else edge(1, 0)]
        grades = [[{"dimension": "gold", "value": float(value)}] for value in noisy]
        rows.append(comparison(prompt, own, verdict, grades=grades, split_group=prompt))  # type: ignore[arg-type]
    train, test = split(from_rows(rows), test=0.25, seed=seed)
    return World(train, test, name, gold, "plain", STORY)


SETS = {"d2t_ratings": descriptions, "stories": stories}


class Gold:
    """How glad a text is."""

    def __init__(self) -> None:
        self.model = create_reward_model(model_options(TrainSettings(data="-", out="-", freeze_backbone=True), 0))
        self.mean, self.spread = 0.0, 1.0
        ends = [self._vectors(list(side)).mean(axis=0) for side in (GLAD, SAD)]
        self.direction = ends[0] - ends[1]

    def _vectors(self, texts: list[str]) -> np.ndarray:
        return self.model.features([e.ids for e in self.model.encoder.encode_text(texts)])

    def score(self, prompts: list[Any], responses: list[str]) -> np.ndarray:
        """Return how glad responses are; their prompts do not count."""
        del prompts
        return (self._vectors([text or "." for text in responses]) @ self.direction - self.mean) / self.spread


def ratings_judge(test: Dataset, seed: int, scratch: Path) -> Any:
    """Train a reward model on the ratings of the held-out groups, which no policy learns from."""
    options = {"freeze_backbone": True, "objective": {"kind": "regression"}, "calibration_folds": 3}
    settings = build(TrainSettings, {"data": "-", "out": "-", "seed": seed, **options})
    model = create_reward_model(model_options(settings, seed))
    settings = resolved(settings, sum(p.numel() for p in model.parameters()))
    return fit(settings, Shares(test, None, None), scratch / "judge", model).model


def settings_of(seed: int, **given: Any) -> AlignSettings:
    """Return settings of a training; everything is computed in float32."""
    common = {"data": "-", "out": "-", "seed": seed, "precision": "fp32", "token_budget": 4096, "pairs_per_step": 32}
    found = build(AlignSettings, {**common, "max_length_tokens": 256, "patience": 0, "validation_share": 0.1, **given})
    return found


def trained(learned: Dataset, folder: Path, seed: int, **given: Any) -> str:
    """Train a policy to say good responses; return its folder."""
    settings = settings_of(seed, **{"method": "sft", "template": "pair", **given})
    fit_share, held_out = split(learned, test=0.1, seed=seed)
    policy, _ = run(settings.model_copy(update={"patience": 3}), Shares(fit_share, held_out, None), folder)
    policy.save_pretrained(folder / "model")
    return str(folder / "model")


def run(settings: AlignSettings, shares: Shares, folder: Path) -> tuple[Policy, Any]:
    """Train one policy by the library's own workflow; return it and its calibration."""
    policy = create_policy(policy_options(settings))
    result = fit_policy(settings, shares, folder, compared(settings, policy))
    return result.model, result.calibration


def references(meta: str | None) -> list[str]:
    """Return what people wrote of the same data, once each; where responses have other ones, of all of them."""
    told = json.loads(meta) if meta else {}
    cells = [told.get("row", {}), *(own or {} for own in told.get("responses", []))]
    return list(dict.fromkeys(text for own in cells for text in own.get("references") or []))


def _good(count: int) -> list[list[Any]]:
    return [[{"dimension": "reference", "value": 1.0}] for _ in range(count)]


def _small_llama(train: Dataset, folder: Path) -> None:
    """Save a random Llama over pieces that were found in the training texts."""
    texts = [prompt_text(row) for row in train["prompt"]]
    texts += [text for packed in train["meta"] for text in references(packed)]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    marks = ["<pad>", "<s>", "</s>", "<sep>"]
    core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1024, special_tokens=marks, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", sep_token="<sep>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
