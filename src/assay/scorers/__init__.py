"""What tells good from bad: reward models, and everything between a conversation and its score."""

from assay.scorers.adapters import LoraOptions as LoraOptions
from assay.scorers.conversation import ConversationEncoder as ConversationEncoder
from assay.scorers.conversation import ConversationSettings as ConversationSettings
from assay.scorers.creation import ModelOptions as ModelOptions
from assay.scorers.creation import create_reward_model as create_reward_model
from assay.scorers.export import export as export
from assay.scorers.interface import Batch as Batch
from assay.scorers.interface import Scorer as Scorer
from assay.scorers.model_shape import RewardModelConfig as RewardModelConfig
from assay.scorers.policy import Policy as Policy
from assay.scorers.policy_loading import PolicyOptions as PolicyOptions
from assay.scorers.policy_loading import create_policy as create_policy
from assay.scorers.policy_loading import load_policy as load_policy
from assay.scorers.references import AdapterOff as AdapterOff
from assay.scorers.references import FrozenReference as FrozenReference
from assay.scorers.references import MixedReference as MixedReference
from assay.scorers.reward_model import RewardModel as RewardModel
from assay.scorers.standardised import Standardised as Standardised
