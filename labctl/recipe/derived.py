"""What names of quantities say: those that follow from a run and are no metrics of its journal, for
tables and claims; and which metrics are accuracies."""

from __future__ import annotations

DERIVED = {
    "time": "steps times mean step time, without compilation and evaluation",
    "wall": "from beginning to end, evaluation and all",
    "device_time": "from beginning to end, a share of it where several runs had the device",
    "energy": "what the device drew from beginning to end, shared likewise",
    "gap": "accuracy on clean training examples minus test accuracy, in points",
    "flops": "executed, forward and backward, 2 per multiply-accumulate",
    "parameters": "of the model",
    "tokens": "tokens alive, mean over blocks and steps",
}
"""The less there is of one, the better."""


def is_accuracy(metric: str) -> bool:
    """Whether a metric is a fraction in journals and stop rules, and percent in tables and
    claims."""
    return metric == "acc" or metric.endswith(("/acc", "_acc"))
