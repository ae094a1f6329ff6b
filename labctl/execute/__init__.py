"""Supervisor and workers: plans become runs."""
