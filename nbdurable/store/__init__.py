"""Adapters of the store port: a fake in memory, and DuckDB, which is imported nowhere else."""
