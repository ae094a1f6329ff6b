"""What the energy transformer's cards announce and refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from labctl.api import DataSpec

Modules = Callable[[str], ModuleType]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"embed_dim": 30, "num_heads": 4}, "1, 2, 3, 5, 6, 10, 15, 30 do"),
        ({"attention": False}, "readout: mean or flatten works"),
        ({"activation": "gelu"}, "logcosh"),
        ({"norm_eps": 0.0}, "greater than 0"),
        ({"relax": {"step_size": 1.5}}, "less than or equal to 1"),
    ],
)
def test_configs_that_make_no_sense_are_refused(
    eqprop: Modules, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        eqprop("config").EnergyTransformerConfig(**fields)


def test_data_that_do_not_fit_are_refused(
    eqprop: Modules, eqprop_card: Callable[[str], Any], small_digits: DataSpec
) -> None:
    card, make = eqprop_card("energy_transformer"), eqprop("config").EnergyTransformerConfig
    assert card.fault(make(), small_digits) is None
    assert "1, 2, 4, 8 do" in card.fault(make(patch_size=3), small_digits)
    text = replace(small_digits, inputs="tokens", shape=(8,))
    assert "reads images" in card.fault(make(), text)
    alone = make(patch_size=8, readout="mean")
    assert "two tokens" in card.fault(alone, small_digits)
    assert card.fault(make(patch_size=8), small_digits) is None, "with CLS there are two"


def test_temperature_is_that_of_a_head_unless_given(eqprop: Modules) -> None:
    make = eqprop("config").EnergyTransformerConfig
    assert make(embed_dim=128, num_heads=4).beta_attention == pytest.approx(32**-0.5)
    assert make(inverse_temperature=0.7).beta_attention == 0.7


def test_a_nudge_has_limits_of_its_own(eqprop: Modules) -> None:
    config = eqprop("config")
    nudge = config.EqPropConfig.model_validate({"nudge": {"max_steps": 9}}).nudge
    assert (nudge.max_steps, nudge.tol) == (9, 1e-3)
    assert config.RelaxConfig().tol == 1e-5


def test_beta_is_a_knob(
    eqprop: Modules, eqprop_card: Callable[[str], Any], small_digits: DataSpec
) -> None:
    card = eqprop_card("eqprop")
    (beta,) = card.knobs(card.config(), small_digits)
    assert (beta.name, beta.kind, beta.default) == ("beta", "continuous", 0.05)
    assert beta.fault(0.0) is not None and beta.fault(1.0) is None
