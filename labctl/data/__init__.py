"""Data sets, and batches that live on the device."""
