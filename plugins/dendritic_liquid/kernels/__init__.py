"""Triton kernels (Tillet et al. 2019), which need a GPU; what calls them is in `operators`."""
