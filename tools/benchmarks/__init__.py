"""The cases of `tools/benchmark.py`, their contestants, and the tables of their results."""
