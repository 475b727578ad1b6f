"""Measures, benchmarks and reports."""
