"""What `tools/benchmark.py` measures, against whom, and how it is told."""
