"""Losses: tensors in, tensors out. No model, no tokenizer, no trainer."""

from assay.objectives.auxiliary import centring_loss as centring_loss
from assay.objectives.auxiliary import contrastive_loss as contrastive_loss
from assay.objectives.auxiliary import gap_correlation as gap_correlation
from assay.objectives.auxiliary import separation as separation
from assay.objectives.auxiliary import triplet_loss as triplet_loss
from assay.objectives.listwise import listmle_loss as listmle_loss
from assay.objectives.listwise import listnet_loss as listnet_loss
from assay.objectives.pairwise import pairwise_loss as pairwise_loss
from assay.objectives.pointwise import clipped_margins as clipped_margins
from assay.objectives.pointwise import pointwise_loss as pointwise_loss
from assay.objectives.pointwise import quantile_loss as quantile_loss
from assay.objectives.pointwise import regression_loss as regression_loss
from assay.objectives.text import TextLoss as TextLoss
from assay.objectives.text import text_loss as text_loss
