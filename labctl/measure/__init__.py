"""FLOPs, and what measurements are given."""
