"""Measurements that run both sides in one go and print the ratio; `nox -s bench-...` runs them."""
