"""Losses: tensors in, tensors out. No model, no tokenizer, no trainer."""

from assay.objectives.auxiliary import centring_loss as centring_loss
from assay.objectives.pairwise import pairwise_loss as pairwise_loss
