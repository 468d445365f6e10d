"""Compiled kernels of tddfa_ros; each has a Python wrapper that checks its arguments."""
