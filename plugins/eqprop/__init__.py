"""Transformers that come to rest at a minimum of an energy, trained by equilibrium propagation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.api import Architecture, DataSpec, LearnerCard, MeasurementCard

from .config import EnergyTransformerConfig, EqPropConfig, eqprop_knobs, fault
from .looped_config import AepConfig, LoopedTransformerConfig, aep_knobs, looped_fault
from .measure_config import (
    AdaptiveComputeConfig,
    GradientEquivalenceConfig,
    RelaxationDepthConfig,
    TrainingMemoryConfig,
)
from .reference_config import BpttConfig, ImplicitConfig
from .seed_config import SeedConfig, SeedLearnerConfig, seed_fault, seed_knobs

if TYPE_CHECKING:
    from labctl.api import Learner, LearnerParts, MeasureContext

    from .looped_model import LoopedTransformer
    from .model import EnergyTransformer
    from .seed_model import EqPropSeed


def _energy_transformer(config: EnergyTransformerConfig, spec: DataSpec) -> EnergyTransformer:
    from .model import EnergyTransformer

    return EnergyTransformer(config, spec)


def _eqprop_seed(config: SeedConfig, spec: DataSpec) -> EqPropSeed:
    from .seed_model import EqPropSeed

    return EqPropSeed(config, spec)


def _seed_learner(config: SeedLearnerConfig, parts: LearnerParts) -> Learner:
    from .seed_learner import SeedEqProp

    return SeedEqProp(config, parts)


def _looped_transformer(config: LoopedTransformerConfig, spec: DataSpec) -> LoopedTransformer:
    from .looped_model import LoopedTransformer

    return LoopedTransformer(config, spec)


def _aep(config: AepConfig, parts: LearnerParts) -> Learner:
    from .aep import Aep

    return Aep(config, parts)


def _eqprop(config: EqPropConfig, parts: LearnerParts) -> Learner:
    from .learner import EqProp

    return EqProp(config, parts)


def _bptt(config: BpttConfig, parts: LearnerParts) -> Learner:
    from .reference_learner import bptt_learner

    return bptt_learner(config, parts)


def _implicit(config: ImplicitConfig, parts: LearnerParts) -> Learner:
    from .reference_learner import implicit_learner

    return implicit_learner(config, parts)


def _gradient_equivalence(
    config: GradientEquivalenceConfig, context: MeasureContext
) -> dict[str, float]:
    from .gradient import gradient_equivalence

    return gradient_equivalence(config, context)


def _training_memory(config: TrainingMemoryConfig, context: MeasureContext) -> dict[str, float]:
    from .memory import training_memory

    return training_memory(config, context)


def _adaptive_compute(config: AdaptiveComputeConfig, context: MeasureContext) -> dict[str, float]:
    from .adaptive import adaptive_compute

    return adaptive_compute(config, context)


def _relaxation_depth(config: RelaxationDepthConfig, context: MeasureContext) -> dict[str, float]:
    from .depth import relaxation_depth

    return relaxation_depth(config, context)


cards = (
    Architecture(
        name="energy_transformer",
        summary="patch tokens that relax to a minimum of an attention and memory energy",
        config=EnergyTransformerConfig,
        build=_energy_transformer,
        fault=fault,
    ),
    Architecture(
        name="eqprop_seed",
        summary="one token that attends to the image, iterated; descends no energy",
        config=SeedConfig,
        build=_eqprop_seed,
        fault=seed_fault,
    ),
    LearnerCard(
        name="eqprop_seed",
        summary="equilibrium propagation as it was reported at 92.09 % on MNIST",
        config=SeedLearnerConfig,
        build=_seed_learner,
        knobs=seed_knobs,
    ),
    Architecture(
        name="looped_transformer",
        summary="ordinary transformer blocks iterated to a fixed point; descend no energy",
        config=LoopedTransformerConfig,
        build=_looped_transformer,
        fault=looped_fault,
    ),
    LearnerCard(
        name="aep",
        summary="equilibrium propagation for any vector field, with a transposed nudged phase",
        config=AepConfig,
        build=_aep,
        knobs=aep_knobs,
    ),
    LearnerCard(
        name="eqprop",
        summary="equilibrium propagation: contrasts nudged equilibria of an energy",
        config=EqPropConfig,
        build=_eqprop,
        knobs=eqprop_knobs,
    ),
    LearnerCard(
        name="bptt",
        summary="back-propagation through the steps of the relaxation",
        config=BpttConfig,
        build=_bptt,
    ),
    LearnerCard(
        name="implicit",
        summary="the gradient at the fixed point by the implicit function theorem",
        config=ImplicitConfig,
        build=_implicit,
    ),
    MeasurementCard(
        name="gradient_equivalence",
        summary="equilibrium propagation beside the implicit gradient, before and after training",
        config=GradientEquivalenceConfig,
        run=_gradient_equivalence,
        only_for=("energy_transformer",),
    ),
    MeasurementCard(
        name="training_memory",
        summary="memory and time of a training step against the steps of the relaxation",
        config=TrainingMemoryConfig,
        run=_training_memory,
        only_for=("energy_transformer",),
    ),
    MeasurementCard(
        name="adaptive_compute",
        summary="how long each example relaxes, and whether hard ones relax longer",
        config=AdaptiveComputeConfig,
        run=_adaptive_compute,
        only_for=("energy_transformer", "looped_transformer"),
    ),
    MeasurementCard(
        name="relaxation_depth",
        summary="accuracy after how many steps of relaxation",
        config=RelaxationDepthConfig,
        run=_relaxation_depth,
        only_for=("energy_transformer", "looped_transformer"),
    ),
)
