"""Quantities that follow from a run and are no metrics of its journal, for tables and claims."""

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
