"""Runs the suites side by side: `python -m suites`, which scripts/test.sh calls."""
