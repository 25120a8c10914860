"""Label models: from the votes of many functions to P(first better)."""

from assay.feedback.label_models.confusion import ConfusionLabelModel
from assay.feedback.label_models.correlated import CorrelatedLabelModel
from assay.feedback.label_models.interface import LabelModel
from assay.feedback.label_models.logistic import LogisticLabelModel
from assay.feedback.label_models.majority import MajorityLabelModel
from assay.feedback.label_models.symmetric import SymmetricLabelModel
from assay.feedback.label_models.vote_table import duplicates, never_apart

__all__ = [
    "ConfusionLabelModel",
    "CorrelatedLabelModel",
    "LabelModel",
    "LogisticLabelModel",
    "MajorityLabelModel",
    "SymmetricLabelModel",
    "duplicates",
    "never_apart",
]
