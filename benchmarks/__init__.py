"""Reproducible timings: python -m benchmarks NAME."""
