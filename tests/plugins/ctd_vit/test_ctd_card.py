"""What the plugin announces, what it refuses, and that reading either loads no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from labctl.api import DataSpec

Make = Callable[..., Any]
PLUGINS = Path(__file__).parents[3] / "plugins"


def test_cards_are_read_without_torch() -> None:
    program = f"""
import sys
from pathlib import Path
from labctl.api import DataSpec
from labctl.registry.registry import Registry
cards = {{card.name: card for card in Registry(Path({str(PLUGINS)!r})).load("ctd_vit").cards}}
learners = {{"saliency_gradient", "saliency_gradient_ema"}}
assert set(cards) == {{"ctd_vit", "saliency_maps", "attention_maps"}} | learners
card = cards["ctd_vit"]
config = card.config()
spec = DataSpec("cifar100", "1", "image", (3, 32, 32), 100, {{"train": 50000}})
assert card.fault(config, spec) is None
(knob,) = card.knobs(config, spec)
assert len(set(knob.ladder([e / 1000 for e in range(350)]))) == 7
assert card.realised(config, spec, {{"token_drop": 0.35}})["tokens_last"] == 41
loaded = {{"torch", "numpy", "matplotlib"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_token_drop_is_off_at_evaluation_and_below_one(
    ctd_card: Callable[[str], Any], ctd_config: Make, cifar100: DataSpec
) -> None:
    (knob,) = ctd_card("ctd_vit").knobs(ctd_config(), cifar100)
    assert (knob.name, knob.kind, knob.default, knob.at_eval) == (
        "token_drop",
        "structural",
        0.0,
        0.0,
    )
    assert knob.fault(0.0) is None and knob.fault(0.35) is None
    assert knob.fault(-0.1) is not None and knob.fault(1.0) is not None
    assert knob.fault(knob.ladder([0.0, 0.99])[-1]) is None, "the last patch may stay alone"


def test_knobs_can_be_asked_of_data_that_do_not_fit(
    ctd_card: Callable[[str], Any], ctd_config: Make
) -> None:
    text = DataSpec("chars", "1", "tokens", (256,), 65, {"train": 100})
    assert [knob.name for knob in ctd_card("ctd_vit").knobs(ctd_config(), text)] == ["token_drop"]


def image(side: int) -> DataSpec:
    return DataSpec("any", "1", "image", (3, side, side), 10, {"train": 1})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"drop_at": 8}, "drop_at 8 is no block of depth 8; use 0 to 7"),
        ({"depth": 2}, "drop_at 2 is no block of depth 2; use 0 to 1"),
        ({"where": "ltd"}, "saliency: random"),
        (
            {"where": "ltd", "saliency": "random", "depth": 2},
            "where: ltd needs depth 3 or more, not 2",
        ),
        ({"where": "stages", "depth": 3}, "where: stages needs depth 4 or more, not 3"),
        ({"where": "input"}, "saliency: random or stem_norm"),
        ({"where": "input", "saliency": "gradient"}, "saliency: random or stem_norm"),
        ({"where": "compound", "saliency": "gradient"}, "where: once"),
        ({"where": "stages", "saliency": "gradient"}, "where: once"),
    ],
)
def test_config_that_cannot_work(
    ctd_card: Callable[[str], Any], ctd_config: Make, fields: dict[str, Any], says: str
) -> None:
    fault = ctd_card("ctd_vit").fault(ctd_config(**fields), image(32))
    assert fault is not None and says in fault


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"where": "compound"},
        {"where": "input", "saliency": "random"},
        {"where": "input", "saliency": "stem_norm"},
        {"where": "ltd", "saliency": "random"},
        {"where": "stages", "saliency": "entropy"},
        {"saliency": "gradient"},
        {"where": "spread", "saliency": "value_norm", "depth": 2, "drop_at": 7},
    ],
)
def test_config_that_works(
    ctd_card: Callable[[str], Any], ctd_config: Make, fields: dict[str, Any]
) -> None:
    assert ctd_card("ctd_vit").fault(ctd_config(**fields), image(32)) is None


def test_data_that_cannot_work(ctd_card: Callable[[str], Any], ctd_config: Make) -> None:
    fault = ctd_card("ctd_vit").fault
    text = DataSpec("chars", "1", "tokens", (256,), 65, {"train": 100})
    assert fault(ctd_config(), text) == "ctd_vit reads images, and chars holds tokens"
    assert "7x7 pixels" in fault(ctd_config(), image(7)) and "stem: plain" in fault(
        ctd_config(), image(7)
    )
    assert "makes 0 patches" in fault(ctd_config(), image(3))
    assert fault(ctd_config(), image(8)) is None
    assert fault(ctd_config(stem="plain"), image(2)) is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"embed_dim": 100}, "num_heads 5 or 10 does, or embed_dim 102"),
        ({"num_heads": 5}, "num_heads 4 or 6 does, or embed_dim 385"),
        ({"embed_dim": 4, "num_heads": 6}, "num_heads 4 does, or embed_dim 6"),
        ({"stem_widths": (0, 8)}, "greater than 0"),
        ({"bucket": 0}, "greater than or equal to 1"),
        ({"saliency": "attention"}, "cls_attn"),
    ],
)
def test_values_that_are_refused(ctd_config: Make, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ctd_config(**fields)


def test_heads_that_are_suggested_divide_the_width(ctd_config: Make) -> None:
    import re

    for width in range(1, 40):
        for heads in range(1, 40):
            try:
                ctd_config(embed_dim=width, num_heads=heads)
            except ValidationError as error:
                assert width % heads
                text = str(error)
                near, wide = re.search(
                    r"num_heads ([\d or]+) does, or embed_dim (\d+)", text
                ).groups()  # type: ignore[union-attr]
                for other in map(int, near.split(" or ")):
                    ctd_config(embed_dim=width, num_heads=other)
                ctd_config(embed_dim=int(wide), num_heads=heads)
