"""What people, rules and models said about responses: records, readers, checks, splits."""

from assay.feedback.check_report import CheckReport, Finding
from assay.feedback.checking import Encoder, check
from assay.feedback.detection import FORMATS
from assay.feedback.label_models import SymmetricLabelModel
from assay.feedback.mapping import ColumnMapping
from assay.feedback.pairs import Pairs, pairs
from assay.feedback.read_report import ReadReport
from assay.feedback.reading import read, read_with_report
from assay.feedback.records import (
    COMPARISONS,
    PROMPTS,
    RATINGS,
    SCHEMAS,
    Edge,
    Grade,
    Kind,
    Message,
    as_chat,
    as_messages,
    comparison,
    edge,
    from_rows,
    identity,
    kind_of,
    message,
    prompt_text,
)
from assay.feedback.splitting import Overlap, folds, overlap, split, without_groups
from assay.feedback.targets import margin_targets

__all__ = [
    "COMPARISONS",
    "FORMATS",
    "PROMPTS",
    "RATINGS",
    "SCHEMAS",
    "CheckReport",
    "ColumnMapping",
    "Edge",
    "Encoder",
    "Finding",
    "Grade",
    "Kind",
    "Message",
    "Overlap",
    "Pairs",
    "ReadReport",
    "SymmetricLabelModel",
    "as_chat",
    "as_messages",
    "check",
    "comparison",
    "edge",
    "folds",
    "from_rows",
    "identity",
    "kind_of",
    "margin_targets",
    "message",
    "overlap",
    "pairs",
    "prompt_text",
    "read",
    "read_with_report",
    "split",
    "without_groups",
]
