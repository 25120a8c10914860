"""Judging scorers: metrics with intervals, calibration, baselines, comparisons, and the report of a run."""

from assay.evaluation.baselines import BagOfWords, Baseline, LengthBaseline
from assay.evaluation.calibration import Temperature, fit_temperature
from assay.evaluation.calibrators import Calibration, CalibrationKind, fit_calibration, from_stored, stored_form
from assay.evaluation.comparison import BaselineResult, Comparison, compare
from assay.evaluation.data_rows import DataRow, data_rows
from assay.evaluation.evaluate import Evaluation, Probabilities, evaluate
from assay.evaluation.intervals import Estimate, GroupBootstrap
from assay.evaluation.isotonic import Isotonic, Platt, fit_isotonic, fit_platt
from assay.evaluation.metrics import accuracy, brier, nll, score_drift, spread
from assay.evaluation.mistake import Mistake, mistakes
from assay.evaluation.rated import RatedEvaluation, evaluate_rated
from assay.evaluation.reliability import CalibrationError, ReliabilityCurve, calibration_error, ece, reliability_curve
from assay.evaluation.report import ReportContent, render_report, write_report
from assay.evaluation.slices import LengthSlices, Slice

__all__ = [
    "BagOfWords",
    "Baseline",
    "BaselineResult",
    "Calibration",
    "CalibrationError",
    "CalibrationKind",
    "Comparison",
    "DataRow",
    "Estimate",
    "Evaluation",
    "GroupBootstrap",
    "Isotonic",
    "LengthBaseline",
    "LengthSlices",
    "Mistake",
    "Platt",
    "Probabilities",
    "RatedEvaluation",
    "ReliabilityCurve",
    "ReportContent",
    "Slice",
    "Temperature",
    "accuracy",
    "brier",
    "calibration_error",
    "compare",
    "data_rows",
    "ece",
    "evaluate",
    "evaluate_rated",
    "fit_calibration",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
    "from_stored",
    "mistakes",
    "nll",
    "reliability_curve",
    "render_report",
    "score_drift",
    "spread",
    "stored_form",
    "write_report",
]
