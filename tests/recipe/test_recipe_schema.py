"""The JSON schema says what the loader says, as far as a schema can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from labctl.project import Project
from labctl.recipe.catalogue import composed, listed, located
from labctl.recipe.json_schema import recipe_schema
from labctl.recipe.layers import COLLECTIONS
from labctl.recipe.source import read
from labctl.registry.registry import Registry

ROOT = Path(__file__).parents[2]
Validator = jsonschema.Draft202012Validator


@pytest.fixture(scope="module")
def schema() -> Any:
    plugins = ROOT / "tests" / "toys" / "plugins"
    return json.loads(json.dumps(recipe_schema(Registry(plugins, is_quiet=True))))


@pytest.fixture(scope="module")
def validator(schema: Any) -> Any:
    Validator.check_schema(schema)
    return Validator(schema)


def recipes() -> list[str]:
    project = Project(ROOT)
    return [*listed(project), *(f"recipes/{name}.yaml" for name in listed(project, "bases"))]


@pytest.mark.parametrize("name", recipes())
def test_the_bundled_recipes_satisfy_it(validator: Any, name: str) -> None:
    project = Project(ROOT)
    file = located(project, name)
    if not name.startswith("recipes/bases"):
        validator.validate(read(file.path, name).plain())
        validator.validate(composed(project, file).plain())


RICH = """
title: rich
tags: [a, b]
data: {name: tiny, val: 10, augment: {crop: 1, flip: true, erase: {area: [0.1, 0.2]}}}
model: {architecture: toy, width: 8, bucket: null, size: all}
learner: {kind: backprop}
loss: {cross_entropy: {smoothing: 0.1}, aux: {names: {a: 1}, pair: [1, 0.5]}}
optimizer: {kind: adamw, weight_decay: 0.1, clip_norm: 1, groups: [{match: [a], lr_scale: 2}]}
batch_size: 10
budget: 1.5ktok
marks: {soft: 10%}
schedules:
  lr: {kind: cosine, peak: 1.0e-3, warmup: 10%, start: soft}
  heat: 3
  mask: {kind: step, values: {0%: dense, soft: gather}, every: 5step}
  share: {kind: phases, phases: [{until: soft, schedule: 0.5}, {until: 100%, schedule: {kind: linear, from: 0, to: 1}}]}
  drop: {kind: bounce, peak: 0.5, middle: 3ep}
numerics: {precision: bf16}
evaluate: {every: 2ep, tail: 0ep, batch_size: 7, train: false}
ema: {decay: 0.9}
seeds: 3
measure: {probe: {at: end}}
claims:
  a: {difference: test/acc, to: toy, at_least: -0.3, data: tiny}
  b: {reference: test/acc, value: 95.6, source: a paper, known: refuted}
  c: {ratio: time, to: toy, at_most: 1}
  d: {difference: test/acc, to: toy, within: 0.2}
  e: {value: test/acc, at_least: 98}
  f: {value: test/acc, near: 97.5, within: 0.3}
  g: {ordering: test/acc, of: [toy, other], better: higher}
  h: {monotone: [test/acc, train/acc], direction: rising}
  i: {bands: {test/acc: [97, 98.5]}}
runtime: {device: cpu, log_every: 10step}
presets:
  smoke: {model: {width: 4}, schedules: {heat: null, lr: {peak: 1.0}}, loss: {aux: null}, seeds: [1]}
"""  # noqa: E501 - one line of YAML is one line


def rich() -> Any:
    return yaml.safe_load(RICH)


def test_every_field_of_a_recipe_is_in_it(validator: Any) -> None:
    validator.validate(rich())


def test_what_extends_another_may_leave_out_the_rest(validator: Any) -> None:
    validator.validate({"extends": "bases/x", "model": {"width": 4}, "schedules": {"lr": None}})
    validator.validate({"extends": ["a", "b.yaml"], "data": {"val": 3}})
    validator.validate({"extends": "a", "schedules": {"lr": {"peak": 3}}, "presets": {"a": None}})


def test_a_claim_may_change_a_part_of_the_inherited_one(validator: Any) -> None:
    for part in ({"known": None}, {"at_most": 3, "source": "b"}, {"to": "c", "within": 1.0}):
        validator.validate({"extends": "a", "claims": {"b": part}})
    for part in ({"knwon": None}, {"at_most": "3"}, {"known": "false"}, {"difference": "test/acc"}):
        assert not validator.is_valid({"extends": "a", "claims": {"b": part}})


def changed(path: str, value: Any) -> Any:
    """The rich recipe with another value at `a.b.c`; `...` takes it away."""
    tree: Any = rich()
    here = tree
    *steps, last = path.split(".")
    for step in steps:
        here = here[int(step) if isinstance(here, list) else step]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return tree


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("titel", "x"),
        ("title", 5),
        ("data", ...),
        ("batch_size", ...),
        ("batch_size", 0),
        ("batch_size", "10"),
        ("budget", 10),
        ("budget", "10 epochs"),
        ("data.name", "nothing"),
        ("data.vall", 3),
        ("data.val", -1),
        ("data.augment.flip", "yes"),
        ("data.augment.flop", True),
        ("model.hads", 3),
        ("model.architecture", "toi"),
        ("model.width", 0),
        ("model.mode", "gate"),
        ("model.size", 1.5),
        ("learner.kind", "backdrop"),
        ("optimizer.kind", "adamv"),
        ("optimizer.beta", 3),
        ("optimizer.groups.0.lr_scal", 3),
        ("optimizer.groups.0.match", []),
        ("loss.x", {}),
        ("loss.aux.wieght", 3),
        ("marks.soft", 5),
        ("schedules.lr.kind", "cosin"),
        ("schedules.lr.pek", 1),
        ("schedules.lr.start", "now or never"),
        ("schedules.lr.from_", 1),
        ("schedules.mask.values", {"0": "dense"}),
        ("schedules.heat", True),
        ("schedules.share.phases", []),
        ("schedules.share.phases.1.schedule.kind", "lin"),
        ("numerics.precision", "fp23"),
        ("evaluate.every", 3),
        ("ema.decay", 1),
        ("seeds", "all"),
        ("measure.prob", {}),
        ("measure.probe.at", "begin"),
        ("claims.a.atleast", 3),
        ("claims.b.value", "95"),
        ("claims.c.known", "false"),
        ("claims.d.within", 0),
        ("claims.d.at_least", 1),
        ("claims.e.within", 1),
        ("claims.f.at_most", 1),
        ("claims.g.of", ["toy"]),
        ("claims.g.better", "more"),
        ("claims.h.direction", ...),
        ("claims.i.bands", {}),
        ("claims.i.bands", {"test/acc": [1]}),
        ("runtime.device", "gpu"),
        ("presets.smoke.titel", "x"),
        ("presets.smoke.presets", {}),
        ("presets.smoke.model.hads", 3),
        ("presets", []),
        ("extends", 5),
    ],
)
def test_what_is_wrong_does_not_satisfy_it(validator: Any, path: str, value: Any) -> None:
    assert not validator.is_valid(changed(path, value))


def test_help_and_defaults_reach_it(schema: Any) -> None:
    properties = schema["properties"]
    assert properties["batch_size"]["description"].startswith("Examples per step")
    toy = next(one for one in properties["model"]["anyOf"] if one["title"] == "toy")
    assert toy["properties"]["width"]["description"] == "Width of a layer."
    assert toy["properties"]["width"]["default"] == 8
    evaluate = schema["$defs"]["Evaluate"]["properties"]
    assert evaluate["every"]["default"] == "1ep"
    cosine = schema["properties"]["schedules"]["additionalProperties"]["anyOf"][0]["anyOf"]
    (fields,) = (one["properties"] for one in cosine if one["title"] == "cosine")
    assert fields["end"]["default"] == "100%"
    assert "from" in fields and "from_" not in fields


def test_cards_with_configs_of_one_name_do_not_mix(toys: Any) -> None:
    source = (toys.root / "plugins/toy/__init__.py").read_text(encoding="utf-8")
    other = toys.root / "plugins/other/__init__.py"
    other.parent.mkdir()
    inner = "class Inner(Config):\n    one: int = 1\n\n\nclass ToyConfig"
    other.write_text(
        source.replace('name="toy"', 'name="other"')
        .replace("class ToyConfig", inner)
        .replace("    rate: float", "    inner: Inner = Inner()\n    rate: float")
        .replace('name="tiny"', 'name="tiny2"')
        .replace('name="words"', 'name="words2"')
        .replace('name="aux"', 'name="aux2"')
        .replace('name="probe"', 'name="probe2"')
        .replace('name="stranger"', 'name="stranger2"')
        .replace('name="bounce"', 'name="bounce2"'),
        encoding="utf-8",
    )
    schema = recipe_schema(type(toys.registry)(toys.project.plugins))
    assert "architecture.other.Inner" in schema["$defs"]
    model = {"architecture": "other", "inner": {"one": 2}}
    assert Validator(schema).is_valid({**rich(), "model": model})


def test_every_collection_allows_null(validator: Any) -> None:
    entries = {"loss": "aux", "measure": "probe"}
    for name in COLLECTIONS:
        validator.validate({"extends": "x", name: {entries.get(name, "a"): None}})
