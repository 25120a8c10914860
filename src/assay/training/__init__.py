"""The batch plan, and the two trainers: on judgements, and on rewards of what a policy writes."""

from assay.training.arguments import PreferenceArguments as PreferenceArguments
from assay.training.objective import PairwiseObjective as PairwiseObjective
from assay.training.plan import Plan as Plan
from assay.training.plan import plan_batches as plan_batches
from assay.training.planned import TrainingError as TrainingError
from assay.training.rollout_arguments import RolloutArguments as RolloutArguments
from assay.training.rollout_trainer import RolloutTrainer as RolloutTrainer
from assay.training.trainer import PreferenceTrainer as PreferenceTrainer
