"""The loop, learners, optimizers, evaluation, checkpoints."""
