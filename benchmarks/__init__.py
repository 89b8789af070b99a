"""Benchmarks of mixsolve: ``python -m benchmarks.bench_pass`` and ``python -m benchmarks.bench_solvers``."""
