"""Labeling functions: what compares two responses of one prompt without having been told which is better."""

from assay.feedback.labeling.applying import Votes, apply
from assay.feedback.labeling.builtin import PRESETS, by_scorer, features, function_of, preset, similarity
from assay.feedback.labeling.checking import check_labeling_function
from assay.feedback.labeling.features import Feature, Window
from assay.feedback.labeling.functions import (
    ABSTAIN,
    FIRST,
    SECOND,
    Batch,
    FeatureFunction,
    LabelingFunction,
    MarginFunction,
    Pair,
    UserFunction,
    feature_function,
    labeling_function,
)
from assay.feedback.labeling.pairing import ResponsePairs, response_pairs
from assay.feedback.labeling.texts import Texts

__all__ = [
    "ABSTAIN",
    "FIRST",
    "PRESETS",
    "SECOND",
    "Batch",
    "Feature",
    "FeatureFunction",
    "LabelingFunction",
    "MarginFunction",
    "Pair",
    "ResponsePairs",
    "Texts",
    "UserFunction",
    "Votes",
    "Window",
    "apply",
    "by_scorer",
    "check_labeling_function",
    "feature_function",
    "features",
    "function_of",
    "labeling_function",
    "preset",
    "response_pairs",
    "similarity",
]
