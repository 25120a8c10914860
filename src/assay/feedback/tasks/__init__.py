"""Classification by writing: tasks, answers whose last line a machine reads, and pairs that hinge on the label."""

from assay.feedback.tasks.known import TASKS as TASKS
from assay.feedback.tasks.loading import read_examples as read_examples
from assay.feedback.tasks.task import Answer as Answer
from assay.feedback.tasks.task import Example as Example
from assay.feedback.tasks.task import Task as Task
