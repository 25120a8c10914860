"""Names and signatures that code outside relies on; they change only with a note in CHANGELOG.md."""

from __future__ import annotations

import inspect

import pytest

import assay.credit
import assay.feedback
import assay.objectives
import assay.scorers
import assay.training
from assay.scorers import RewardModel

PROMISED = {
    "feedback.read": (assay.feedback, "(source, format='auto'"),
    "feedback.split": (assay.feedback, "(data, test=0.2, seed=0)"),
    "feedback.margin_targets": (assay.feedback, "(gap, gamma, transform='identity')"),
    "objectives.pairwise_loss": (
        assay.objectives,
        "(delta, target=1.0, margin=0.0, weight=1.0, reduction='mean')",
    ),
    "objectives.listnet_loss": (assay.objectives, "(scores, grades, mask=None"),
    "RewardModel.from_pretrained": (RewardModel, "("),
    "RewardModel.score": (RewardModel, "(self, prompts, responses"),
    "RewardModel.score_text": (RewardModel, "(self, texts"),
    "RewardModel.probability": (RewardModel, "(self, prompts, a, b)"),
    "RewardModel.prefix_scores": (RewardModel, "(self, prompt, response)"),
    "training.PreferenceTrainer": (assay.training, "(model, args"),
    "training.RolloutTrainer": (assay.training, "(actor, args, prompts, rewards, algorithm"),
    "credit.redistribute": (assay.credit, "(prefix_scores, first_token='subtract_prompt', mix=1.0)"),
    "credit.capped_mix": (assay.credit, "(label_reward, rationale_reward, cap)"),
}


@pytest.mark.parametrize("name", PROMISED)
def test_promised_name_is_where_it_was(name: str) -> None:
    place, begins = PROMISED[name]
    signature = inspect.signature(getattr(place, name.rpartition(".")[2]))
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    written = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    assert written.startswith(begins.removesuffix(")")), written
