"""Fetches one revision of a model from the hub, verifies it, and only then gives it its name.

In a container this has a network that nothing which serves has, and none of theirs.
"""
