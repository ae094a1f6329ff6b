"""Everything that an author can get wrong: one message, its place, and the next thing to type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from labctl.errors import RecipeError, UsageError
from labctl.recipe.check import Check
from labctl.recipe.source import read
from labctl.registry.config import Config

LR = "lr: {kind: cosine, peak: 1e-3, warmup: 10%}"


def first_line(problems: list[str]) -> str:
    assert problems, "a problem was expected"
    return problems[0].splitlines()[0]


CASES = r"""
# wrong types

batch_size: 10
batch_size: true
4:1: batch_size should be a whole number, not true
Examples per step

batch_size: 10
batch_size: 1e1
4:1: batch_size should be a whole number, not 10.0
write 10

batch_size: 10
batch_size: '10'
4:1: batch_size should be a whole number, not '10'
write it without quotes: 10

batch_size: 10
batch_size: 007
4:1: batch_size should be a whole number, not '007'
Examples per step

batch_size: 10
batch_size: 1_0
4:1: batch_size should be a whole number, not '1_0'
Examples per step

batch_size: 10
batch_size: null
4:1: batch_size should be a whole number, not null
Examples per step

batch_size: 10
batch_size: [10]
4:1: batch_size should be a whole number, not a list
Examples per step

heads: 2
heads: null
3:38: model.heads should be a whole number, not null
leave it out for its default

heads: 2
rate: x
3:38: model.rate should be a number, not 'x'
its default is 0.5

heads: 2
size: 1.5
3:38: model.size should be a whole number or 'all', not 1.5
there are: all

title: a recipe for the tests
title: 2024
1:1: title should be text, not 2024
quote it: '2024'

title: a recipe for the tests
title: true
1:1: title should be text, not true
One line

seeds: [0, 1]
tags: ctd
9:1: tags should be a list, not 'ctd'
write a list: [ctd]

seeds: [0, 1]
tags: [a, 1]
9:11: tags.1 should be text, not 1
quote it: '1'

seeds: [0, 1]
ema: 0.9
9:1: ema should be a mapping of fields to values, not 0.9
average of the weights

seeds: [0, 1]
evaluate: {train: 1}
9:12: evaluate.train should be true or false, not 1
gap to test

data: {name: tiny}
data: tiny
2:1: data should be a mapping of fields to values, not 'tiny'
{name: digits}

# unknown and missing names

batch_size: 10
batch_size: 10\nbatchsize: 3
5:1: unknown field 'batchsize'
did you mean 'batch_size'?

heads: 2
hads: 2
3:38: unknown field 'model.hads'
did you mean 'heads'?

name: tiny
name: tiny, vall: 5
2:20: unknown field 'data.vall'
did you mean 'val'?

kind: adamw
kind: adamw, beta: [1, 2]
6:26: unknown field 'optimizer.beta'
did you mean 'betas'?

kind: adamw
kind: adamw, groups: [{match: [a], lr_scal: 2}]
6:48: unknown field 'optimizer.groups.0.lr_scal'
did you mean 'lr_scale'?

architecture: toy
architecture: toi
3:9: unknown architecture 'toi'
did you mean 'toy'?

name: tiny
name: tny
2:8: unknown dataset 'tny'
did you mean 'tiny'?

kind: adamw
kind: adamv
6:13: unknown optimizer 'adamv'
did you mean 'adamw'?

seeds: [0, 1]
learner: {kind: backdrop}
9:11: unknown learner 'backdrop'
did you mean 'backprop'?

seeds: [0, 1]
loss: {cross_entropi: {}}
9:8: unknown loss 'cross_entropi'
did you mean 'cross_entropy'?

seeds: [0, 1]
loss: {aux: {wieght: 2}}
9:14: unknown field 'loss.aux.wieght'
did you mean 'weight'?

seeds: [0, 1]
measure: {prob: {}}
9:11: unknown measurement 'prob'
did you mean 'probe'?

architecture: toy
architecure: toy
3:9: model.architecture is missing
did you mean 'architecture' by 'architecure'?

architecture: toy, 
(nothing)
3:1: model.architecture is missing
labctl ls architectures

batch_size: 10\n
(nothing)
1:1: batch_size is missing
Examples per step

kind: adamw
kind: adamw, groups: [{lr_scale: 2}]
6:35: optimizer.groups.0.match is missing
Glob patterns

seeds: [0, 1]
loss: {aux: {pair: [1]}}
9:14: loss.aux.pair.1 is missing

# impossible values

batch_size: 10
batch_size: 101
4:1: batch_size 101 exceeds the 100 training examples of tiny
batch_size: 64

name: tiny
name: tiny, val: 95
4:1: batch_size 10 exceeds the 5 training examples of tiny
batch_size: 5

name: tiny
name: tiny, val: 100
2:20: data.val: 100 of 100 training examples leaves none to train on
val: 10

heads: 2
heads: 3
3:1: model: heads 3 does not divide width 8

heads: 2
rate: 7
3:38: model.rate should be less than or equal to 1, not 7
its default is 0.5

heads: 2
mode: gate
3:38: model.mode should be 'plain' or 'gated', not 'gate'
did you mean 'gated'?

batch_size: 10
batch_size: 0
4:1: batch_size should be greater than 0, not 0
Examples per step

kind: adamw
kind: adamw, betas: [0.9, 1.0]
6:39: optimizer.betas.1 should be less than 1, not 1.0

kind: adamw
kind: sgd, momentum: 0.0, nesterov: true
6:1: optimizer: nesterov needs momentum

name: tiny
name: tiny, augment: {crop: 8}
2:30: data.augment.crop 8 leaves nothing of 8 x 8 pixels
a few pixels

name: tiny
name: tiny, channels: 2, augment: {policy: autoaugment_cifar10}
2:43: policy autoaugment_cifar10 is for 1 or 3 channels; tiny has 2
remove policy

name: tiny
name: tiny, augment: {erase: {area: [0.5, 0.1]}}
2:30: data.augment.erase: area [0.5, 0.1] should be a smallest and a largest

name: tiny
name: words
3:1: model and data do not fit: it needs images

budget: 10ep
budget: 10
5:1: budget: 10 needs a unit: 10ep or 10step
How long to train

budget: 10ep
budget: 10%
5:1: budget: a budget is a positive number of ep, step or tok, not 10%
How long

budget: 10ep
budget: 0ep
5:1: budget: a budget is a positive number of ep, step or tok, not 0ep
How long

budget: 10ep
budget: soft
5:1: budget: a budget is a positive number of ep, step or tok, not soft
How long

budget: 10ep
budget: 10 epochs
5:1: budget: '10 epochs' is not a time; a time is a number with a unit
How long

budget: 10ep
budget: -1ep
5:1: budget: '-1ep' is not a time; a time is a number with a unit
How long

budget: 10ep
budget: 0.01ep
5:1: budget 0.01ep is 0 steps of 10 examples
from 1 to 1,000,000,000 steps

budget: 10ep
budget: 1e12ep
5:1: budget 1000000000000ep is 10,000,000,000,000 steps
from 1 to 1,000,000,000 steps

budget: 10ep
budget: 5tok
5:1: budget: 5tok: this data is not counted in tokens

seeds: [0, 1]
seeds: 0
9:1: seeds: 0 means 0 runs, of seeds 0, 1, ...; for one seed: [0]
One run each

seeds: [0, 1]
seeds: 20240501
9:1: seeds: 20240501 means 20240501 runs
One run each

seeds: [0, 1]
seeds: true
9:1: seeds should be a list, not true
write a list: [true]

seeds: [0, 1]
seeds: []
9:1: seeds: 0 seeds; from 1 to 1000 can be given
One run each

seeds: [0, 1]
seeds: [1, 2, 1]
9:1: seeds: seed 1 is given twice
One run each

seeds: [0, 1]
seeds: [0, -1]
9:1: seeds: seed -1 is negative
One run each

seeds: [0, 1]
seeds: [0, 1.5]
9:12: seeds.1 should be a whole number, not 1.5
One run each

seeds: [0, 1]
evaluate: {every: 0ep}
9:12: evaluate.every should be longer than 0ep
its default is 1ep

seeds: [0, 1]
evaluate: {every: soft}
9:12: evaluate.every: a length of time is wanted, such as 2ep, not the moment soft
its default is 1ep

seeds: [0, 1]
evaluate: {tail: 5tok}
9:12: evaluate.tail: 5tok: this data is not counted in tokens

seeds: [0, 1]
runtime: {log_every: 5tok}
9:11: runtime.log_every: 5tok: this data is not counted in tokens

seeds: [0, 1]
runtime: {device: gpu}
9:11: runtime.device should be 'auto', 'cpu', 'cuda' or 'mps', not 'gpu'
did you mean 'cuda'?

seeds: [0, 1]
numerics: {precision: float16}
9:12: numerics.precision should be 'fp32', 'tf32', 'bf16' or 'fp64', not 'float16'
did you mean 'bf16'?

seeds: [0, 1]
epochs: 10
9:1: unknown field 'epochs'
how long to train is `budget: 50ep`

optimizer: {kind: adamw}
optimizer: {kind: adamw, lr: 1e-3}
6:26: unknown field 'optimizer.lr'
the learning rate is a schedule: `schedules: {lr: 1e-3}`

seeds: [0, 1]
loss: {}
9:1: loss should have at least 1 entry
Terms of the objective

seeds: [0, 1]
loss: {cross_entropy: }
9:8: loss.cross_entropy: null takes away an inherited entry
write cross_entropy: {}

seeds: [0, 1]
measure: {stranger: {}}
9:11: measurement 'stranger' cannot open toy
it is for another

# marks

seeds: [0, 1]
marks: {soft: 11ep}
9:9: mark soft is 11ep, after the budget of 10ep ends
give it in %

seeds: [0, 1]
marks: {soft: 10%, hard: soft}
9:20: mark hard is another mark, soft
give it a time of its own

seeds: [0, 1]
marks: {soft: soft}
9:9: mark soft is another mark, soft
give it a time of its own

seeds: [0, 1]
marks: {soft: 5tok}
9:9: marks.soft: 5tok: this data is not counted in tokens

seeds: [0, 1]
marks: {5ep: 5ep}
9:9: '5ep' cannot name a mark
use letters

seeds: [0, 1]
marks: {soft: 5}
9:9: marks.soft: 5 needs a unit: 5ep, 5step or 5%
Named moments

seeds: [0, 1]
epochs: 5
9:1: unknown field 'epochs'
how long to train is `budget: 50ep`

seeds: [0, 1]
runtime: {engine: compiled}
9:11: runtime.engine: what is compiled has other numbers: write numerics.compiled: true

# claims

seeds: [0, 1]
claims: {a: 5}
9:10: claims.a: a claim has one of the fields reference, difference, ratio
What the author expects

seeds: [0, 1]
claims: {a: {to: toy, at_least: 1}}
9:10: claims.a: a claim has one of the fields
What the author expects

seeds: [0, 1]
claims: {a: {reference: x}}
9:10: claims.a.value is missing
In the metric's unit

seeds: [0, 1]
claims: {a: {reference: x, value: '3'}}
9:28: claims.a.value should be a number, not '3'
write it without quotes: 3

seeds: [0, 1]
claims: {a: {reference: gap, value: 3, at_least: 1}}
9:40: unknown field 'claims.a.at_least'
there are: data, known, reference, source, value

seeds: [0, 1]
claims: {a: {difference: x, to: toy}}
9:10: claims.a: claims nothing; give it at_least, at_most or both

seeds: [0, 1]
claims: {a: {ratio: x, to: toy, at_least: 3, at_most: 2}}
9:10: claims.a: nothing is at least 3 and at most 2

seeds: [0, 1]
claims: {a: {ratio: x, to: toy, atmost: 2}}
9:33: unknown field 'claims.a.atmost'
did you mean 'at_most'?

seeds: [0, 1]
claims: {a: {ratio: time, to: tyo, at_most: 2}}
9:27: claims.a.to: no recipe 'tyo'
did you mean 'toy'?

seeds: [0, 1]
claims: {a: {ratio: time, to: x, at_most: 2}}
9:27: claims.a.to: x compared with itself is the same
leave it out: a: null

seeds: [0, 1]
claims: {a: {difference: test/acc, to: toy@smoke, within: 2}}
9:36: claims.a.to: no recipe 'toy@smoke'
did you mean 'toy'?

seeds: [0, 1]
claims: {a: {ratio: gap, to: toy, at_most: 2, known: refuetd}}
9:47: claims.a.known should be 'refuted', not 'refuetd'
did you mean 'refuted'?

seeds: [0, 1]
claims: {a: {ratio: time, to: toy, at_most: 2, data: cifar1}}
9:48: unknown dataset 'cifar1'
did you mean 'cifar10'?

seeds: [0, 1]
claims: {a: {ratio: tme, to: toy, at_most: 2}}
9:14: claims.a.ratio: no quantity 'tme'
did you mean 'time'?

seeds: [0, 1]
claims: {a: {value: tset/acc, at_least: 2}}
9:14: claims.a.value: no metric 'tset/acc': tset is neither a split nor a measurement
did you mean 'test'?

seeds: [0, 1]
claims: {a: {value: test/acx, at_least: 2}}
9:14: claims.a.value: no metric 'test/acx': an evaluation finds acc, loss
did you mean 'test/acc'?

seeds: [0, 1]
claims: {a: {value: train/clean/as_trained/acc, at_least: 2}}
9:14: claims.a.value: no metric 'train/clean/as_trained/acc': an evaluation finds acc, loss

seeds: [0, 1]
claims: {a: {value: val/acc, at_least: 2}}
9:14: claims.a.value: no val/acc: no validation part is carved
set data.val

seeds: [0, 1]
seeds: {min: 3, max: 5, until: ci_halfwidth(val/acc) <= 0.3}
9:25: seeds.until: no val/acc: no validation part is carved
set data.val

seeds: [0, 1]
claims: {a: {value: test/acc, at_least: 0.97}}
9:10: claims.a: claims have accuracies in percent; 0.97 is less than one percent

seeds: [0, 1]
claims: {a: {value: test/acc, at_least: 150}}
9:10: claims.a: claims have accuracies in percent; none is 150 %

seeds: [0, 1]
claims: {a: {value: test/acc, at_most: 250}}
9:10: claims.a: claims have accuracies in percent; none is 250 %

seeds: [0, 1]
claims: {a: {value: test/acc, near: 0.97, within: 0.01}}
9:10: claims.a: claims have accuracies in percent; 0.97 is less than one percent

seeds: [0, 1]
claims: {a: {bands: {test/acc: [0.96, 0.98]}}}
9:10: claims.a: claims have accuracies in percent; 0.98 is less than one percent

seeds: [0, 1]
claims: {a: {reference: test/acc, value: 0.97}}
9:10: claims.a: claims have accuracies in percent; 0.97 is less than one percent

seeds: [0, 1]
claims: {a: {difference: test/acc, to: toy, within: 0.2, at_most: 2}}
9:10: claims.a: within and at_most exclude one another

seeds: [0, 1]
claims: {a: {value: test/acc, near: 97, within: 1, at_least: 96}}
9:10: claims.a: near and within and at_least exclude one another

seeds: [0, 1]
claims: {a: {value: test/acc, near: 97}}
9:10: claims.a.within is missing

seeds: [0, 1]
claims: {a: {value: test/acc}}
9:10: claims.a: claims nothing; give it at_least, at_most or both

seeds: [0, 1]
claims: {a: {difference: test/acc, to: toy, within: 0}}
9:45: claims.a.within should be greater than 0
The margin

seeds: [0, 1]
claims: {a: {ordering: test/acc, of: []}}
9:34: claims.a.of should have at least 2 entries
the best first

seeds: [0, 1]
claims: {a: {ordering: test/acc, of: [toy, tyo]}}
9:44: claims.a.of.1: no recipe 'tyo'
did you mean 'toy'?

seeds: [0, 1]
claims: {a: {ordering: test/acc, of: [toy, toy]}}
9:10: claims.a: toy cannot be better than itself

seeds: [0, 1]
claims: {a: {ordering: test/entropy, of: [toy, other]}}
9:10: claims.a: is a higher test/entropy better, or a lower one?

seeds: [0, 1]
claims: {a: {monotone: [test/acc, tset/acc], direction: rising}}
9:35: claims.a.monotone.1: no metric 'tset/acc'
did you mean 'test'?

seeds: [0, 1]
claims: {a: {monotone: [test/acc, test/loss]}}
9:10: claims.a.direction is missing

seeds: [0, 1]
claims: {a: {monotone: [test/acc, test/loss], direction: rising}}
9:10: claims.a: accuracies do not rise to what is none; name metrics of one unit

seeds: [0, 1]
claims: {a: {difference: test/acc, to: other, at_least: 150}}
9:10: claims.a: accuracies differ by 100 points at most: 150

seeds: [0, 1]
claims: {a: {value: test/acc, near: 97, within: 300}}
9:10: claims.a: accuracies differ by 100 points at most: 300

seeds: [0, 1]
claims: {a: {bands: {}}}
9:14: claims.a.bands should have at least 1 entry
Lowest and highest

seeds: [0, 1]
claims: {a: {bands: {test/acc: [97, 96]}}}
9:10: claims.a: no test/acc lies in [97, 96]

# schedules

LR
lr: true
8:3: schedules.lr should be a number or text, not true
By knob

LR
lr: [1]
8:3: schedules.lr should be a number or text, not a list
By knob

LR
lr: '1e-3'
8:3: schedules.lr: '1e-3' is not a number
write it without quotes: 1e-3

LR
lr: -1
8:3: schedules.lr: -1 is below 0

LR
lr: null
8:3: schedules.lr: null takes away an inherited entry
remove it

LR
heat: 1
7:1: schedules.lr is missing
lr: {kind: cosine

LR
lr: {peak: 1}
8:3: schedules.lr.kind is missing
labctl ls schedules

LR
lr: {kind: cosin, peak: 1}
8:8: unknown schedule 'cosin'
did you mean 'cosine'?

LR
lr: {kind: cosine}
8:3: schedules.lr.peak is missing
Value at the end of the warm-up

LR
lr: {kind: cosine, peak: x}
8:22: schedules.lr.peak should be a number, not 'x'
Value at the end

LR
lr: {kind: cosine, peak: 1, evry: 1ep}
8:31: unknown field 'schedules.lr.evry'
did you mean 'every'?

LR
lr: {kind: cosine, peak: 1, from_: 1}
8:31: unknown field 'schedules.lr.from_'
did you mean 'from'?

LR
lr: {kind: cosine, peak: 1, start: 0}
8:31: schedules.lr.start: 0 needs a unit: 0ep, 0step or 0%
its default is 0%

LR
lr: {kind: cosine, peak: 1, end: 11ep}
8:3: schedules.lr: end 11ep is step 110, but the budget ends at step 100 (10ep)

LR
lr: {kind: cosine, peak: 1, start: soft}
8:3: schedules.lr: unknown mark 'soft'; marks of this recipe: none

LR
lr: {kind: cosine, peak: 1, every: 1ep}
8:31: schedules.lr.every: lr is continuous and follows every step
remove every

LR
LR\n  hat: 3
9:3: no knob 'hat' to turn
did you mean 'heat'?

LR
LR\n  heat: 0.05
9:3: schedules.heat: 0.05 is below 0.1

LR
LR\n  heat: {kind: linear, from: 1, to: 11}
9:3: schedules.heat: 11 is above 10

LR
LR\n  heat: hot
9:3: schedules.heat: 'hot' is not a number

LR
LR\n  layers: 2.5
9:3: schedules.layers: 2.5 is not a whole number

LR
LR\n  layers: {kind: linear, from: 1, to: 9}
9:3: schedules.layers: 9 is above 8

LR
LR\n  mask: 0.5
9:3: schedules.mask: 0.5 is not one of dense, gather, prune

LR
LR\n  mask: {kind: step, values: {0%: dense, 30%: gathr}}
9:3: schedules.mask: 'gathr' is not one of dense, gather, prune

LR
LR\n  mask: {kind: step, values: {0%: true}}
9:31: schedules.mask.values.0% should be a number or text, not true

LR
LR\n  mask: {kind: step, values: {0: dense}}
9:22: schedules.mask.values: 0 needs a unit: 0ep, 0step or 0%

LR
LR\n  mask: {kind: step, values: {0%: dense, 31%: gather, 33%: prune}}
9:3: schedules.mask: gather is never reached: mask may change every 10 steps, and the budget is 100
schedules.mask.every=2step

LR
LR\n  share: {kind: linear, from: 0, to: 1, every: 0ep}
9:41: schedules.share.every should be longer than 0ep
How often

LR
LR\n  heat: {kind: phases, phases: [{until: 50%, schedule: {kind: linr}}]}
9:57: schedules.heat.phases.0.schedule.kind: unknown 'linr'
did you mean 'linear'?

LR
LR\n  heat: {kind: phases, phases: [{until: 50%, schedule: {kind: linear, from: 1}}]}
9:46: schedules.heat.phases.0.schedule.to is missing
Value from `end` on

LR
LR\n  heat: {kind: phases, phases: [{until: 50%, schedule: 1}]}
9:3: schedules.heat: the last phase ends at 50%; make it 100%

# plugins that fail

width: 8
width: 13
toy/__init__.py:42: the check of model by ToyConfig failed: ZeroDivisionError: thirteen
a fault of the plugin

width: 8
width: 26
toy/__init__.py:50: knobs() of architecture 'toy' failed: KeyError
a fault of the plugin

width: 8, heads: 2
width: 39, heads: 3
fault() of architecture 'toy' failed: RuntimeError: no idea
a fault of the plugin

name: tiny
name: tiny, channels: 13
spec() of dataset 'tiny' failed: KeyError
a fault of the plugin

name: tiny
name: tiny, channels: 14
data set 'tiny': mean has 13 values; there are 14 channels
a fault of the plugin

LR
LR\n  bad: 1
9:3: schedules.bad: the ladder of bad gives 1 values for 10

LR
LR\n  worse: 1
the ladder of knob 'worse' failed: ZeroDivisionError
a fault of the plugin
"""


def cases() -> list[Any]:
    """Paragraphs of what is written, what instead, the problem and, where there is one, a hint."""
    found = []
    for paragraph in CASES.strip().split("\n\n"):
        if not paragraph.startswith("#"):
            written, instead, problem, *hint = paragraph.replace("LR", LR).split("\n")
            instead = instead.replace("\\n", "\n").replace("(nothing)", "")
            parts = (written.replace("\\n", "\n"), instead, problem, "".join(hint))
            found.append(pytest.param(*parts, id=problem))
    return found


def test_a_measurement_that_cannot_be_taken_is_said_before_training(toys: Any) -> None:
    found = toys.problems("measure={robustness: {}}", "data={name: words}")
    (problem,) = (text for text in found if "robustness" in text)
    assert "measurement 'robustness' and data do not fit: robustness corrupts images" in problem
    assert "to take it away: robustness: null" in problem
    (problem,) = toys.problems("measure={official_robustness: {}}")
    assert "nobody has published corrupted files of tiny; robustness, which makes them" in problem


@pytest.mark.parametrize(
    ("knob", "said"),
    [
        ("Knob('heat', 1.0, 'as the model has it', low=0.1, high=10.0)", ""),
        ("Knob('heat', 2.0, low=0.1, high=10.0)", "knob 'heat' is declared twice, in two ways"),
        ("Knob('heat', 1.0, low=0.1, high=10.0, at_eval=0.0)", "declared twice, in two ways"),
        ("Knob('lr', 1.0)", "knob 'lr' is the optimizer's\n  give it another name"),
    ],
)
def test_parts_that_share_a_knob_declare_it_alike(toys: Any, knob: str, said: str) -> None:
    folder = toys.root / "plugins" / "term"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from labctl.api import Knob, LossTerm\n"
        f"knobs = lambda config, spec: ({knob},)\n"
        "cards = (LossTerm(name='term', build=lambda c, s: None, knobs=knobs),)\n"
    )
    found = toys.problems("loss={cross_entropy: {}, term: {}}")
    assert said in found[0] if said else found == []


@pytest.mark.slow
@pytest.mark.parametrize(("written", "instead", "problem", "hint"), cases())
def test_one_problem(toys: Any, written: str, instead: str, problem: str, hint: str) -> None:
    assert written in toys.text
    found = toys.problems_of(toys.text.replace(written, instead))
    (at,) = (text for text in found if problem in text)
    assert at.startswith("recipes/x.yaml:"), "every problem has its place"
    assert hint in at
    assert len(found) == 1, "one fault does not draw others after it"


def test_a_sound_recipe_has_no_problems(toys: Any) -> None:
    assert toys.problems() == []
    assert toys.problems_of(toys.text.replace("seeds: [0, 1]", "seeds: 3")) == []


MANY = """\
title: 5
data: {name: tiny, chanels: 3, val: -1}
model: {architecture: toy, hads: 1}
batchsize: 10
batch_size: x
budget: 10
optimizer: {kind: adamw, beta: 3}
schedules:
  lr: {kind: cosine, pek: 1}
  hat: {kind: linear, from: 0, to: 1}
seeds: [1, 1]
marks: {a: b, c: 5}
claims: {z: {reference: x}, y: {ratio: q, to: tyo, at_least: 1}}
loss: {aux: {wieght: 3}}
measure: {prob: {}}
"""


def test_all_problems_of_a_recipe_come_at_once_in_its_order(toys: Any) -> None:
    found = [problem.splitlines()[0] for problem in toys.problems_of(MANY)]
    assert [line.removeprefix("recipes/x.yaml:") for line in found] == [
        "1:1: title should be text, not 5",
        "2:20: unknown field 'data.chanels'",
        "2:32: data.val should be greater than or equal to 0, not -1",
        "3:28: unknown field 'model.hads'",
        "4:1: unknown field 'batchsize'",
        "5:1: batch_size should be a whole number, not 'x'",
        "6:1: budget: 10 needs a unit: 10ep or 10step",
        "7:26: unknown field 'optimizer.beta'",
        "9:3: schedules.lr.peak is missing",
        "9:22: unknown field 'schedules.lr.pek'",
        "11:1: seeds: seed 1 is given twice",
        "12:9: mark a is another mark, b",
        "12:15: marks.c: 5 needs a unit: 5ep, 5step or 5%",
        "13:10: claims.z.value is missing",
        "13:43: claims.y.to: no recipe 'tyo'",
        "14:14: unknown field 'loss.aux.wieght'",
        "15:11: unknown measurement 'prob'",
    ]


def test_problems_of_phases_stand_in_the_phase(toys: Any) -> None:
    phases = "[{until: 50%, schedule: {kind: step}}, {until: 100%, schedule: {a: 1}}]"
    text = toys.text.replace(LR, f"{LR}\n  heat: {{kind: phases, phases: {phases}}}")
    assert [problem.splitlines()[0] for problem in toys.problems_of(text)] == [
        "recipes/x.yaml:9:46: schedules.heat.phases.0.schedule.values is missing",
        "recipes/x.yaml:9:85: schedules.heat.phases.1.schedule.kind is missing",
    ]


def test_augmentation_is_of_images(toys: Any) -> None:
    found = toys.problems("data={name: words, augment: {flip: true}}")
    assert any("words has no images to augment\n  remove augment" in text for text in found)


def test_an_empty_recipe_says_all_that_it_needs(toys: Any) -> None:
    found = toys.problems_of("title: x\n")
    assert [problem.splitlines()[0] for problem in found] == [
        f"recipes/x.yaml:1:1: {field} is missing"
        for field in ("data", "model", "optimizer", "batch_size", "budget", "schedules")
    ]


def test_ladders_of_several_knobs_are_judged_at_once(toys: Any) -> None:
    found = toys.problems("schedules.bad=1", "schedules.worse=1")
    assert [problem.partition(":")[0] for problem in found] == [
        "override 'schedules.bad=1'",
        "override 'schedules.worse=1'",
    ]


def test_problems_of_a_base_stand_in_the_base(toys: Any) -> None:
    toys.write("bases/b", toys.text.replace("heads: 2", "heads: 3").replace("10ep", "10"))
    found = toys.problems_of("extends: bases/b\nbatch_size: 0\nseeds: 2\n")
    assert [problem.partition(" ")[0] for problem in found] == [
        "recipes/bases/b.yaml:3:1:",
        "recipes/bases/b.yaml:5:1:",
        "recipes/x.yaml:2:1:",
    ]


def test_problems_of_a_preset_stand_in_the_preset(toys: Any) -> None:
    toys.write("x", toys.text + "presets:\n  smoke: {model: {heads: 3}, budget: 1}\n")
    assert toys.problems(name="x") == []
    found = toys.problems(name="x", preset="smoke")
    assert [problem.partition(" ")[0] for problem in found] == [
        "recipes/x.yaml:11:11:",
        "recipes/x.yaml:11:30:",
    ]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("model.heads=3", "override 'model.heads=3': model: heads 3 does not divide width 8"),
        ("model.hads=3", "override 'model.hads=3': unknown field 'model.hads'"),
        ("batch_size=", "override 'batch_size=': batch_size should be a whole number, not null"),
        ("seeds=on", "override 'seeds=on': is 'on' a truth value or a word?"),
        ("seeds.2=5", "override 'seeds.2=5': no position '2' in a list of 2"),
        ("presets.a.seeds=1", "override 'presets.a.seeds=1': unknown field 'presets'"),
        ("extends=x", "override 'extends=x': unknown field 'extends'"),
        ("schedules.lr=null", "override 'schedules.lr=null': schedules.lr is missing"),
    ],
)
def test_problems_of_overrides_name_the_override(toys: Any, override: str, problem: str) -> None:
    assert first_line(toys.problems(override)) == problem


def test_overrides_that_name_another_block_take_it_whole(toys: Any) -> None:
    recipe = toys.load("toy", "model.depth=3", "model.architecture=ctd_vit", "data.name=digits")
    assert recipe.architecture.config.depth == 3


def test_data_that_is_not_there_is_one_problem(toys: Any) -> None:
    (problem,) = toys.problems("data.name=npz", "data.path=x.npz", "data.classes=3")
    assert "data: x.npz is not there\n  looked for " in problem
    assert str(Path("data") / "x.npz") in problem
    assert "set LABCTL_DATA or data.path" in problem


def test_a_plugin_that_cannot_be_imported_is_one_problem(toys: Any) -> None:
    broken = toys.root / "plugins" / "broken" / "__init__.py"
    broken.parent.mkdir()
    broken.write_text("import sys\n\nraise ValueError('no luck')\n", encoding="utf-8")
    (problem,) = toys.problems("model={architecture: broken}")
    assert problem == (
        "override 'model={architecture: broken}': "
        f"{broken}:3: plugin 'broken' failed to import: ValueError: no luck\n"
        "  mend it, or see the whole traceback: labctl doctor --plugin broken"
    )


def test_an_unknown_recipe_or_preset(toys: Any) -> None:
    with pytest.raises(UsageError, match="no recipe 'tyo'"):
        toys.load("tyo")
    with pytest.raises(RecipeError, match="no preset 'smoke'\n  there are none"):
        toys.load(preset="smoke")


def test_presets_of_a_recipe_are_known(toys: Any) -> None:
    toys.write("x", toys.text + "presets: {b: {seeds: 1}, a: {}}\n")
    recipe = toys.load("x", preset="b")
    assert (recipe.presets, recipe.label) == (("b", "a"), "x@b")
    assert toys.load("x").label == "x"


def test_claims_are_about_the_data_of_the_recipe_itself(toys: Any) -> None:
    toys.write("x", toys.text + "presets: {smoke: {data: {name: digits}}}\n")
    recipe = toys.load("x", preset="smoke")
    assert (recipe.document.data.name, recipe.claims_data) == ("digits", "tiny")


def test_an_empty_name_is_a_name_that_nothing_has(toys: Any) -> None:
    for block in ("learner={kind: ''}", "data={name: ''}", "model={architecture: ''}"):
        assert "unknown" in first_line(toys.problems(block))


def test_the_budget_of_claims_is_that_of_the_recipe_itself(toys: Any) -> None:
    toys.write("x", toys.text + "presets: {smoke: {budget: 3ep}}\n")
    assert toys.load("x", preset="smoke").claims_budget == "10ep"
    assert toys.load("x", "budget=20 step").claims_budget == "10ep"
    toys.write("x", toys.text.replace("budget: 10ep", "budget: 10 epochs"))
    assert toys.load("x", "budget=7ep").claims_budget == "7ep"


class Pairwise(Config):
    """A block with a list that must not be short."""

    both: tuple[int, ...] = Field(min_length=2)


@pytest.mark.parametrize(
    ("text", "places"),
    [("both: [1]", [("both",)]), ("both: [x]", [("both", 0)]), ("both: []", [("both",)])],
)
def test_a_list_that_is_too_short_is_said_and_said_once(
    tmp_path: Path, text: str, places: list[tuple[str | int, ...]]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    check = Check(read(path, "x.yaml"))
    assert check.model(Pairwise, check.tree.plain()) is None
    assert check.faulty == places
