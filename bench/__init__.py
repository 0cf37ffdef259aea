"""Benchmarks, one question a file: see README.md beside this."""
