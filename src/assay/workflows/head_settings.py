"""Settings of heads: what stands between a text's vector and its score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from assay.config import Settings


class OneHead(Settings):
    """A head, and the options that its class takes."""

    def options(self) -> dict[str, Any]:
        """Return the options of `assay.scorers.head_kinds.make_head`."""
        return self.model_dump(exclude={"kind"})

    @property
    def usual_rate(self) -> float:
        """Learning rate that suits it.

        Vectors of variance 1 are longer than most backbones' own, and hidden layers learn by heart soon: three times
        slower was better on held-out folds of hh_rlhf/helpful-base, and no worse on helpful-online. On other sets no
        rate is best everywhere (studies/results/head_settings.md).
        """
        return 3e-4


_InitStd = Annotated[
    float, Field(ge=0, description="deviation of its first weights, drawn at random; 0: all scores are 0 at first")
]


class Linear(OneHead):
    """One weight per dimension."""

    kind: Literal["linear"] = Field(default="linear", description="one weight per dimension")
    normalise: bool = Field(default=False, description="bring each vector to mean 0 and variance 1 before")
    init_std: _InitStd = 0.0

    @property
    def usual_rate(self) -> float:
        """Learning rate that suits it."""
        return super().usual_rate if self.normalise else 1e-3


class MLP(OneHead):
    """One hidden layer."""

    kind: Literal["mlp"] = Field(description="one hidden layer")
    hidden: int = Field(default=256, ge=1, description="hidden units")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="share of hidden units dropped in training")
    normalise: bool = Field(default=False, description="bring each vector to mean 0 and variance 1 before")
    init_std: _InitStd = 0.0


class Attributes(OneHead):
    """One score for each dimension of grades."""

    kind: Literal["attributes"] = Field(
        description="one score for each dimension of grades, weighed by what the prompt asks for"
    )
    dimensions: tuple[str, ...] = Field(default=(), description="dimensions of grades; none: all that are graded")

    @property
    def usual_rate(self) -> float:
        """Learning rate that suits it."""
        return 1e-3


class Landmarks(OneHead):
    """What heads that compare a response with others have in common."""

    per_class: int = Field(
        default=18, ge=1, description="points of each class at the start; fewer where judgements are few"
    )
    builders: int = Field(default=2, ge=1, description="responses that a point is the mean of")


class Kernel(Landmarks):
    """Gaussian kernels around landmarks."""

    kind: Literal["kernel"] = Field(description="Gaussian kernels around landmarks; the control of prototypes")
    cap: int = Field(default=286, ge=2, description="landmarks that there is room for")

    @property
    def usual_rate(self) -> float:
        """Learning rate that suits it: a few dozen weights, each of which has far to go."""
        return 1e-2


class Prototypes(Landmarks):
    """Proto-RM."""

    kind: Literal["prototypes"] = Field(description="Proto-RM: a blend of a response with prototypes that it is near")
    cap: int = Field(default=286, ge=2, description="prototypes that there is room for")
    omega: float = Field(default=0.5, ge=0, le=1, description="share of the prototypes in what is scored")
    omega_schedule: Literal["constant", "learned", "fading"] = Field(
        default="constant",
        description="whether omega stays, is learned from there on, or fades: min(omega, exp(-0.0008 * step))",
    )
    class_weight: float = Field(
        default=0.0, ge=0, description="of the class term: nearer to chosen than to rejected prototypes"
    )
    growth: Literal["quantile", "imp", "off"] = Field(
        default="quantile", description="when a response becomes a prototype; imp: by the rule of that paper"
    )
    alpha: float = Field(default=0.1, gt=0, lt=1, description="concentration of imp")
    variance: float = Field(default=5.0, gt=0, description="of a cluster, of imp")
    drop: float = Field(default=0.1, ge=0, lt=1, description="share of prototypes left out of a training step")
    tau: float = Field(default=0.5, ge=0, description="distance that prototypes of a class should keep")
    diversity: float = Field(default=1.0, ge=0, description="weight of that in the loss")
    trained: bool = Field(default=True, description="train the prototypes themselves")
    start: Literal["means", "random"] = Field(default="means", description="means of responses, or random vectors")
    released: bool = Field(
        default=False, description="as the released code: the label of a response chooses its prototypes in training"
    )

    def options(self) -> dict[str, Any]:
        """Return the options of the head; the weight of diversity is the loss's."""
        return self.model_dump(exclude={"kind", "diversity"})

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what would have no effect."""
        fields = type(self).model_fields
        if self.growth != "imp" and not self.released:
            for name in ("alpha", "variance"):
                if getattr(self, name) != fields[name].default:
                    yield name, "belongs to --head.growth imp"
        if not self.trained and self.diversity != fields["diversity"].default:
            yield "diversity", "moves prototypes, and --no-head.trained keeps them as they are"
        if self.omega_schedule != "constant" and self.released:
            yield "omega_schedule", "is fading with --head.released"
        if self.omega_schedule == "learned" and not 0 < self.omega < 1:
            yield "omega", "must lie between 0 and 1 where it is learned"
        if 2 * self.per_class > self.cap:
            yield "cap", f"has no room for {self.per_class} prototypes of each class"


class Preference(OneHead):
    """GPM."""

    kind: Literal["preference"] = Field(description="GPM: margins that need not come from scores, so may be circular")
    blocks: int = Field(default=3, ge=1, description="pairs of coordinates; one alone is nearly Bradley-Terry")
    tau: float = Field(default=1.0, gt=0, description="temperature of margins; the paper has 0.1, with --head.unit")
    unit: bool = Field(default=False, description="embeddings of length 1")
    scales: bool = Field(default=True, description="weigh the blocks by what the prompt asks for")
    normalise: bool = Field(default=True, description="bring each vector to mean 0 and variance 1 before")

    @property
    def usual_rate(self) -> float:
        """Learning rate that suits it: margins are products, and grow twice as fast as what they are made of."""
        return 1e-4


Head = Annotated[Linear | MLP | Attributes | Prototypes | Kernel | Preference, Field(discriminator="kind")]

#: Heads that read or change something which several processes would each know in part.
ALONE = ("attributes", "prototypes", "kernel", "preference")
