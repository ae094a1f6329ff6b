"""The fifteen corruptions of CIFAR-10-C, at five severities, as batched operations on tensors."""
