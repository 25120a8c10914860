"""Token counts as training with a backbone would have them, without loading its weights."""

from __future__ import annotations

from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from assay.scorers import backbones
from assay.scorers.conversation import ConversationEncoder
from assay.scorers.loading import ModelOptions, make_encoder


def tokens_only(backbone: str, template: str, max_length_tokens: int | None) -> ConversationEncoder:
    """Make the encoder that training with this backbone would use, without loading its weights."""
    config = backbones.load_config(backbone)
    tokenizer = backbones.load_tokenizer(backbone)
    # what is pretrained by filling gaps looks both ways
    causal = config.get_text_config().model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    options = ModelOptions(backbone=backbone, template=template, max_length_tokens=max_length_tokens)
    return make_encoder(tokenizer, config, options, causal=causal)
