"""Plugins broken in one place each: the suite must see it, and say what is wrong.

On the plugins as they are every check passes (test_conformance.py), so what is seen is the break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from labctl.errors import Problem
from labctl.testing import cards, data, model, training
from labctl.testing.bench import Bench

Check = Callable[[Bench], Iterator[Problem]]


@dataclass(frozen=True)
class Mutant:
    """A plugin with one edit per file, the check that must see it, and words of what it says."""

    name: str
    check: Check
    says: str
    edits: dict[str, tuple[str, str]]
    plugin: str = "marginalia"
    overrides: tuple[str, ...] = field(default=())


FORWARD = "hidden = F.gelu(self.inner(tokens))"
BUILT = "self.head = nn.Linear(width, spec.num_classes)"
CONFIG = '    width: int = Field(default=32, ge=1)\n    """Channels of a character."""'
MASK = 'return (back >= 0) & (back < NEAR) if reach == "near" else back >= 0'
MOMENTUM = "self.momentum = [torch.zeros_like(p) for p in self.parameters]"
STATE = 'return {"momentum": self.momentum}'
UPDATE = 'parameter.sub_(knobs["lr"] * direction.sign())'
TERM = 'loss: Tensor = knobs["activation_decay"] * output.aux["hidden"].float().square().mean()'
KNOB = '(Knob("inertia", 0.9, "share of the momentum that a step keeps", low=0.0, high=1.0),)'
CARDS = "cards = (\n"
LADDER = """(
        Knob("inertia", 0.9, "share of the momentum that a step keeps", low=0.0, high=1.0),
        Knob("rank", 8, "how many", kind="structural", low=0, high=8, ladder=lambda asked: %s),
    )"""
MEASUREMENT = """def _look(config: Empty, context: object) -> dict[str, float]:
    %s


cards = (
    MeasurementCard(name="look", summary="looks", run=_look),
"""

IMPORTS = """from typing import Literal

from labctl.api import MeasurementCard, Schedule, ScheduleCard


"""

CARD_SIDE = [
    Mutant(
        "torch at the top",
        cards.heavy_imports,
        "loading the cards imports torch",
        {"text.py": ("import random", "import random\nimport torch")},
    ),
    Mutant(
        "torch while reading a recipe",
        cards.heavy_imports,
        "reading the recipe imports torch",
        {"__init__.py": ("    windows = {", "    import torch\n\n    windows = {")},
    ),
    Mutant(
        "labctl's insides",
        cards.foreign_imports,
        "imports labctl.train.learner.Output",
        {
            "model.py": (
                "import DataSpec, Knobs, Output",
                "import DataSpec, Knobs\nfrom labctl.train.learner import Output",
            )
        },
    ),
    Mutant(
        "a name that no recipe can spell",
        cards.names,
        "dataset 'My-Margins'",
        {"__init__.py": ('name="margins"', 'name="My-Margins"')},
        overrides=("data.name=My-Margins",),
    ),
    Mutant(
        "a name of another plugin's",
        cards.names,
        "learner 'observed_backprop' is also brought by",
        {"__init__.py": ('name="signum"', 'name="observed_backprop"')},
        overrides=("learner={kind: observed_backprop}",),
    ),
    Mutant(
        "no summary",
        cards.names,
        "dataset 'margins' has no summary",
        {"__init__.py": ('summary="made-up notes, by character"', 'summary=""')},
    ),
    Mutant(
        "a config that can change",
        cards.configs,
        "ReaderConfig can be changed",
        {"__init__.py": (CONFIG, f'    model_config = {{"frozen": False}}\n{CONFIG}')},
    ),
    Mutant(
        "a config that takes anything",
        cards.configs,
        "ReaderConfig takes unknown fields",
        {"__init__.py": (CONFIG, f'    model_config = {{"extra": "allow"}}\n{CONFIG}')},
    ),
    Mutant(
        "a list in a config",
        cards.configs,
        "ReaderConfig.sizes: list[int] can be changed in place",
        {"__init__.py": (CONFIG, f'{CONFIG}\n    sizes: list[int] = []\n    """Sizes."""')},
    ),
    Mutant(
        "a field without a word",
        cards.configs,
        "ReaderConfig.width: is not documented",
        {"__init__.py": ('\n    """Channels of a character."""', "")},
    ),
    Mutant(
        "a field that labctl has too",
        cards.configs,
        "MarginsConfig.val: labctl has a field of that name",
        {
            "__init__.py": (
                '    """Characters in a window."""',
                '    """Characters in a window."""\n    val: int = 0\n    """Mine."""',
            )
        },
    ),
    Mutant(
        "evaluation out of range",
        cards.knobs,
        "at_eval: 2 is above 1",
        {"__init__.py": (KNOB, KNOB.replace("high=1.0", "high=1.0, at_eval=2.0"))},
    ),
    Mutant(
        "a ladder that climbs on",
        cards.knobs,
        "its ladder is not idempotent",
        {"__init__.py": (KNOB, LADDER % "[a / 2 for a in asked]")},
    ),
    Mutant(
        "a ladder that loses epochs",
        cards.knobs,
        "its ladder gives 1 values",
        {"__init__.py": (KNOB, LADDER % "[asked[0]]")},
    ),
    Mutant(
        "nothing finite to realise",
        cards.realised,
        "`realised` with reach=near: gives {'seen': inf}",
        {
            "__init__.py": (
                "for place in range(1, context + 1)) / context}",
                "for place in range(1, context + 1)) / context if limit > NEAR else float('inf')}",
            )
        },
    ),
]

DATA_SIDE = [
    Mutant(
        "a version that changes by itself",
        data.spec,
        "differs when asked again",
        {"__init__.py": ('"margins", "1",', '"margins", __import__("uuid").uuid4().hex,')},
    ),
    Mutant(
        "one window too many",
        data.splits,
        "has 749 examples; the spec says 750",
        {"__init__.py": ("(size - 1) // config.context", "size // config.context")},
    ),
    Mutant(
        "two letters too few",
        data.splits,
        "run from 0 to 25; the spec's num_classes allows 0 to 24",
        {"__init__.py": ("len(ALPHABET), windows", "len(ALPHABET) - 2, windows")},
    ),
    Mutant(
        "characters in 32 bits",
        data.splits,
        "inputs are torch.int32; tokens data are torch.int64",
        {"__init__.py": ("torch.tensor(encoded(split))", "torch.tensor(encoded(split)).int()")},
    ),
    Mutant(
        "another text each time",
        data.splits,
        "`load` gives other examples the second time",
        {"text.py": ("random.Random(split)", "random.Random()")},
    ),
]

MODEL_SIDE = [
    Mutant(
        "weights from numpy",
        model.initialisation,
        "two models of one seed differ at places",
        {
            "model.py": (
                "0.1 * torch.randn(spec.shape[0], width)",
                "torch.tensor(__import__('numpy').random.randn(spec.shape[0], width)).float()",
            )
        },
    ),
    Mutant(
        "a seed of its own",
        model.initialisation,
        "models of two seeds are equal",
        {
            "model.py": (
                "width = config.width",
                "width = config.width\n        torch.manual_seed(0)",
            )
        },
    ),
    Mutant(
        "reads a value while building",
        model.initialisation,
        "`build` fails on the meta device",
        {"model.py": (BUILT, f"{BUILT}\n        self.scale = self.places.detach().std().item()")},
    ),
    Mutant(
        "one logit too many",
        model.logits,
        "logits have shape (8, 32, 28); they must have (8, 32, 27)",
        {"model.py": (BUILT, "self.head = nn.Linear(width, spec.num_classes + 1)")},
    ),
    Mutant(
        "half precision",
        model.logits,
        "are torch.bfloat16",
        {
            "model.py": (
                "self.head(tokens + self.outer(hidden))",
                "self.head(tokens + self.outer(hidden)).bfloat16()",
            )
        },
    ),
    Mutant(
        "not a number",
        model.logits,
        "6912 of 6912 logits are not finite",
        {"model.py": (FORWARD, f"{FORWARD} / 0 * 0")},
    ),
    Mutant(
        "a choice that it cannot carry out",
        model.knob_range,
        "reach=aside: KeyError: 'aside'",
        {
            "__init__.py": ('choices=("near", "far")', 'choices=("near", "far", "aside")'),
            "model.py": (
                MASK,
                'return {"near": (back >= 0) & (back < NEAR), "far": back >= 0}[reach]',
            ),
        },
    ),
    Mutant(
        "a range with a hole",
        model.knob_range,
        "noise=-0.5: ",
        {
            "__init__.py": ("low=0.0, at_eval=0.0", "low=-1.0, high=0.0, at_eval=0.0"),
            "model.py": ('knobs["noise"] * torch', 'knobs["noise"].sqrt() * torch'),
        },
        plugin="skeleton",
        overrides=("schedules.noise=0.0",),
    ),
    Mutant(
        "Python's own chance",
        model.evaluation,
        "the same forward pass twice gives two results",
        {"model.py": (FORWARD, f"{FORWARD} * __import__('random').random()")},
    ),
    Mutant(
        "counts its calls",
        model.evaluation,
        "the same forward pass twice gives two results",
        {
            "model.py": (
                FORWARD,
                f"self.calls = getattr(self, 'calls', 0) + 1\n        {FORWARD} * self.calls",
            )
        },
    ),
    Mutant(
        "looks at the whole batch",
        model.evaluation,
        "when others share the batch",
        {"model.py": (FORWARD, f"{FORWARD}\n        hidden = hidden - hidden.mean(0)")},
    ),
    Mutant(
        "looks ahead",
        model.evaluation,
        "logits before position 16 change with later tokens",
        {"model.py": (MASK, "return back == back")},
    ),
    Mutant(
        "a weight that is not saved",
        model.storage,
        "a model with the same state dict computes other logits",
        {
            "model.py": (
                "self.places = nn.Parameter(0.1 * torch.randn(spec.shape[0], width))",
                "self.places = 0.1 * torch.randn(spec.shape[0], width)",
            )
        },
    ),
    Mutant(
        "a loss per window",
        model.losses,
        "loss.activation_decay, step 0: must be a 0-d tensor, is (8, 32)",
        {"__init__.py": (TERM, TERM.replace("mean()", "mean(-1)"))},
    ),
    Mutant(
        "a sum for a mean",
        model.losses,
        "loss.activation_decay, step 0: doubles when every example is there twice",
        {"__init__.py": (TERM, TERM.replace("mean()", "sum()"))},
    ),
]

TRAINING_SIDE = [
    Mutant(
        "reports no loss",
        training.learner,
        "`loss` must be among its metrics",
        {"learner.py": ("return metrics", 'return {"acc": metrics["acc"]}')},
    ),
    Mutant(
        "holds on to the graph",
        training.learner,
        "metric 'loss' holds on to its graph",
        {"learner.py": ("return metrics", 'return {"loss": (loss, torch.ones(()))}')},
    ),
    Mutant(
        "state that no file carries",
        training.learner,
        "its saved state cannot be read",
        {"learner.py": (STATE, 'return {"momentum": self.momentum, "config": self.config}')},
    ),
    Mutant(
        "state that is not taken back",
        training.learner,
        "its state changes on the way through a file, at momentum[0]",
        {"learner.py": ("momentum.copy_(saved)", "momentum.add_(0 * saved)")},
    ),
    Mutant(
        "state that a recording would not see",
        training.learner,
        "a step puts something else into momentum[0]",
        {
            "learner.py": (
                "        return metrics",
                "        self.momentum = [momentum.clone() for momentum in self.momentum]\n"
                "        return metrics",
            )
        },
    ),
    Mutant(
        "a parameter for show",
        partial(training.reach, unmoved=()),
        "training does not move spare.weight",
        {
            "model.py": (BUILT, f"{BUILT}\n        self.spare = nn.Linear(2, 2, bias=False)"),
            "learner.py": (
                "torch.autograd.grad(loss, self.parameters)",
                "torch.autograd.grad(loss, self.parameters, materialize_grads=True)",
            ),
        },
    ),
    Mutant(
        "uphill",
        partial(training.overfitting, steps=30),
        "the loss goes from",
        {"learner.py": (UPDATE, UPDATE.replace("sub_", "add_"))},
    ),
    Mutant(
        "gradients by chance",
        partial(training.overfitting, steps=30),
        "the loss goes from",
        {
            "learner.py": (
                "gradients = torch",
                "gradients = [torch.randn_like(p) for p in self.parameters] or torch",
            )
        },
    ),
    Mutant(
        "waits for the learning rate",
        training.waiting,
        "learner.py:35: waits for the value of a tensor",
        {"learner.py": (UPDATE, UPDATE.replace('knobs["lr"]', 'float(knobs["lr"])'))},
    ),
    Mutant(
        "uses up Python's chance",
        training.manners,
        "change the state of `random`",
        {"model.py": (FORWARD, f"__import__('random').random()\n        {FORWARD}")},
    ),
    Mutant(
        "sets the default dtype",
        training.manners,
        "change torch's default dtype",
        {
            "model.py": (
                "width = config.width",
                "width = config.width\n        torch.set_default_dtype(torch.float64)",
            )
        },
    ),
    Mutant(
        "chance that no seed reaches",
        partial(training.repetition, steps=3),
        "two runs of one seed differ after 6 steps",
        {
            "learner.py": (
                UPDATE,
                UPDATE.replace("direction", "(direction * __import__('random').choice([1, -1]))"),
            )
        },
    ),
    Mutant(
        "a momentum for all",
        partial(training.interleaving, steps=3),
        "changes when another takes turns with it",
        {
            "learner.py": (
                MOMENTUM,
                f"shared = type(parts.model).__dict__.get('momentum')\n        {MOMENTUM}\n"
                "        self.momentum = shared or self.momentum\n"
                "        type(parts.model).momentum = self.momentum",
            )
        },
    ),
    Mutant(
        "forgets its momentum",
        partial(training.resumption, steps=3),
        "3 steps, a stop and 3 steps are not 6 steps, at model.",
        {
            "learner.py": (
                STATE,
                'return {"momentum": [torch.zeros_like(p) for p in self.momentum]}',
            ),
        },
    ),
    Mutant(
        "state that it does not find again",
        partial(training.resumption, steps=3),
        "a stopped run cannot go on: KeyError: 'momentum'",
        {"learner.py": (STATE, "return {}")},
    ),
    Mutant(
        "a memory that is no buffer",
        partial(training.resumption, steps=3),
        "are not 6 steps",
        {
            "model.py": (
                FORWARD,
                "self.calls = getattr(self, 'calls', 0) + self.training\n        "
                f"{FORWARD} * (1 + self.calls)",
            )
        },
    ),
    Mutant(
        "work that nobody counts",
        partial(training.cost, uncounted=()),
        "aten._fft_r2c are not counted",
        {
            "model.py": (
                FORWARD,
                f"{FORWARD}\n        hidden = hidden + 0 * torch.fft.rfft(hidden)[..., :1].real",
            )
        },
    ),
    Mutant(
        "a measurement without a result",
        training.measurements,
        "measurement look: returns {'depth': nan}",
        {"__init__.py": (CARDS, MEASUREMENT % 'return {"depth": float("nan")}')},
    ),
    Mutant(
        "a measurement that trains",
        training.measurements,
        "measurement look: changes the model, at places",
        {
            "__init__.py": (
                CARDS,
                MEASUREMENT % 'context.model.places.data.zero_()\n    return {"depth": 1.0}',
            )
        },
    ),
]

WOBBLE = '''class Wobble(Schedule):
    """Says less than it does."""

    kind: Literal["wobble"] = "wobble"
    to: float
    """What it names."""

    def at(self, step: float) -> float:
        return %s


cards = (
    ScheduleCard(name="wobble", summary="up and down", config=Wobble),
'''

SCHEDULES = [
    Mutant(
        "a schedule that leaves its bounds",
        cards.schedules,
        "schedules.activation_decay: stands at 0.2 at step 0, beyond all that `values` names",
        {"__init__.py": (CARDS, WOBBLE % "2 * self.to")},
        overrides=("schedules.activation_decay={kind: wobble, to: 0.1}",),
    ),
    Mutant(
        "a schedule with a secret",
        cards.schedules,
        "schedules.activation_decay: gives other values after a way through JSON",
        {"__init__.py": (CARDS, WOBBLE % "self.to / (1 + id(self) % 1013)")},
        overrides=("schedules.activation_decay={kind: wobble, to: 0.1}",),
    ),
]

MUTANTS = [*CARD_SIDE, *DATA_SIDE, *MODEL_SIDE, *TRAINING_SIDE, *SCHEDULES]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_the_suite_sees(mutant: Mutant, bench_of: Callable[..., Bench]) -> None:
    edits = dict(mutant.edits)
    if "Card" in edits.get("__init__.py", ("", ""))[1]:
        old, new = edits["__init__.py"]
        edits["__init__.py"] = (old, IMPORTS + new)
    bench = bench_of(mutant.plugin, edits, *mutant.overrides)
    said = [str(problem) for problem in mutant.check(bench)]
    assert any(mutant.says in text for text in said), said


def test_declared_exceptions_are_accepted(bench_of: Callable[..., Bench]) -> None:
    spare = f"{BUILT}\n        self.spare = nn.Linear(2, 2, bias=False)"
    unused = "torch.autograd.grad(loss, self.parameters"
    edits: dict[str, Any] = {
        "model.py": (BUILT, spare),
        "learner.py": (unused, f"{unused}, materialize_grads=True"),
    }
    bench = bench_of("marginalia", edits)
    assert len(list(training.reach(bench, ()))) == 1
    assert list(training.reach(bench, ("spare.*",))) == []
