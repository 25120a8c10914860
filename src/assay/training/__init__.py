"""The batch plan and the preference trainer."""

from assay.training.arguments import PreferenceArguments as PreferenceArguments
from assay.training.objective import PairwiseObjective as PairwiseObjective
from assay.training.plan import Plan as Plan
from assay.training.plan import plan_batches as plan_batches
from assay.training.planned import TrainingError as TrainingError
from assay.training.trainer import PreferenceTrainer as PreferenceTrainer
