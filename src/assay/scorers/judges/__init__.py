"""Language models as judges: asked in both orders, or by a list of criteria."""

from assay.scorers.judges.asking import Answer, Judge, Question
from assay.scorers.judges.grading import graded
from assay.scorers.judges.local import LocalJudge
from assay.scorers.judges.remote import RemoteJudge
from assay.scorers.judges.rules import CRITERIA, PRINCIPLES, Rules, TwoOrders, in_both_orders, met

__all__ = [
    "CRITERIA",
    "PRINCIPLES",
    "Answer",
    "Judge",
    "LocalJudge",
    "Question",
    "RemoteJudge",
    "Rules",
    "TwoOrders",
    "graded",
    "in_both_orders",
    "met",
]
