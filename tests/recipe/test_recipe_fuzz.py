"""Whatever stands in a recipe: it is planned, or refused by an error that says where."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from labctl.errors import LabctlError, RecipeError
from labctl.plans.derive import plans
from labctl.plans.sketch import realised, sketches

pytestmark = pytest.mark.slow

RICH: dict[str, Any] = yaml.safe_load("""
title: all that a recipe can say
tags: [a, b]
data: {name: tiny, val: 10, augment: {crop: 1, flip: true, erase: {probability: 0.25}}}
model: {architecture: toy, width: 8, heads: 2}
learner: {kind: backprop}
loss: {cross_entropy: {smoothing: 0.1}, aux: {weight: 2.0, names: {a: 1}, pair: [1, 0.5]}}
optimizer: {kind: adamw, weight_decay: 0.05, clip_norm: 1.0, groups: [{match: [a], lr_scale: 0.5}]}
batch_size: 10
budget: 10ep
marks: {soft: 10%, hard: 3ep}
schedules:
  lr: {kind: cosine, peak: 0.001, warmup: 10%}
  heat: {kind: exponential, from: 5.0, to: 0.1, start: soft, end: hard}
  mask: {kind: step, values: {0%: dense, hard: gather}}
  layers: {kind: linear, from: 1, to: 8, every: 20step}
  drop: {kind: polynomial, from: 0.0, to: 0.35, power: 1.5, ease: out}
  share:
    kind: phases
    phases:
      - {until: soft, schedule: 0.0}
      - {until: 80%, schedule: {kind: polynomial, from: 0.0, to: 0.35}}
      - {until: 100%, schedule: {kind: step, values: {0%: 0.1}}}
numerics: {precision: bf16}
evaluate: {every: 2ep, tail: 1ep, batch_size: 50, train: false}
ema: {decay: 0.9}
seeds: [0, 1]
measure: {probe: {at: end}}
claims:
  a: {difference: test/acc, to: toy, at_least: -0.3}
  b: {reference: test/acc, value: 95.6, source: x}
  c: {ratio: time, to: toy, at_most: 1, known: refuted}
  d: {difference: test/acc, to: toy, within: 0.2}
  e: {value: test/acc, at_least: 98}
  f: {value: test/acc, near: 97.5, within: 0.3}
  g: {ordering: test/acc, of: [toy, fuzz], better: higher}
  h: {monotone: [test/acc, train/acc], direction: rising}
  i: {bands: {test/acc: [97, 98.5]}}
runtime: {device: cpu, log_every: 10step, checkpoint_seconds: 3}
presets: {smoke: {budget: 6ep, seeds: 1, loss: {aux: null}}}
""")
POOL: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3.5, 1e308, -1e308, 1e-320, 10**18, 13, 26, 39, "", "x", "10%",
    "1ep", "3step", "1tok", "soft", "0%", "100%", "1e15ep", "0.001step", "nan", "digits", "npz",
    "folder", "words", "toy", "ctd_vit", "bounce", "phases", "step", "gather", "fp64", "a: b", "*",
    "a\nb", "é", "\u2028", "a" * 200, [], {}, [1], ["a"], [[]], {"a": 1}, {"kind": "linear"},
    {"kind": "step"}, {"0%": 1}, {"kind": "phases", "phases": [{"until": "100%", "schedule": 1}]},
]  # fmt: skip
KEYS = ["from_", "kind", "name", "architecture", "x", "every", "lr", "values", "to", "extends"]
SIGNS = [*":{}[]-,#&*!|>'\"%@`\n\t\x00 \\?<=~0e.é", "  ", "\n  ", "<<: ", "- "]


def paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield from paths(tree[key], (*path, key))


def mutated(draws: random.Random) -> Any:
    """The rich recipe with a few values taken away, replaced, renamed, moved or added."""
    tree = copy.deepcopy(RICH)
    for _ in range(draws.choice([1, 1, 1, 2, 4])):
        *above, key = draws.choice(list(paths(tree)))
        here: Any = tree
        for step in above:
            here = here[step]
        value = copy.deepcopy(draws.choice(POOL))
        match draws.randrange(5):
            case 0:
                del here[key]
            case 1 if isinstance(here, dict):
                here[draws.choice([*KEYS, f"{key}x"])] = here.pop(key)
            case 2 if isinstance(here, dict):
                here[draws.choice(KEYS)] = value
            case 3 if isinstance(here, list):
                here.append(value)
            case _:
                here[key] = value
        if not tree:
            break
    return tree


def scratched(draws: random.Random, text: str) -> str:
    """The text with a few signs put in or left out."""
    for _ in range(draws.choice([1, 2, 4])):
        at = draws.randrange(len(text) + 1)
        text = text[:at] + draws.choice(SIGNS) + text[at + draws.choice([0, 0, 1, 6]) :]
    return text


def attempt(toys: Any, text: str, preset: str | None, *overrides: str) -> bool:
    """Whether the recipe can be planned; anything but an error of labctl's own gets through."""
    toys.write("fuzz", text)
    try:
        recipe = toys.load("fuzz", *overrides, preset=preset)
        made = plans(recipe)
        sketches(recipe, made[0])
        realised(recipe, made[0])
    except RecipeError as error:
        for problem in error.problems:
            assert problem.where or "is not an override" in problem.message
            assert problem.message and "Input should" not in str(problem)
        return False
    except LabctlError:
        return False
    return True


def test_the_recipe_that_is_mutated_is_sound(toys: Any) -> None:
    text = yaml.safe_dump(RICH, sort_keys=False)
    assert attempt(toys, text, None) and attempt(toys, text, "smoke")


@pytest.mark.parametrize("seed", range(4))
def test_mutated_recipes(toys: Any, seed: int) -> None:
    draws = random.Random(seed)
    for _ in range(120):
        text = yaml.safe_dump(mutated(draws), sort_keys=False, allow_unicode=True)
        attempt(toys, text, draws.choice([None, None, "smoke"]))


@pytest.mark.parametrize("seed", range(2))
def test_scratched_recipes(toys: Any, seed: int) -> None:
    draws = random.Random(seed)
    whole = yaml.safe_dump(RICH, sort_keys=False, allow_unicode=True)
    for _ in range(120):
        attempt(toys, scratched(draws, whole), draws.choice([None, "smoke"]))


def test_mutated_overrides(toys: Any) -> None:
    draws = random.Random(0)
    whole = yaml.safe_dump(RICH, sort_keys=False)
    for _ in range(150):
        path = ".".join(map(str, draws.choice(list(paths(RICH)))))
        override = f"{path}={draws.choice(POOL)}"
        if draws.random() < 0.3:
            override = scratched(draws, override)
        attempt(toys, whole, None, override)
