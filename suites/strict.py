"""Whether a skipped test is a failure, as it is where CI runs the tests."""

import os


def is_strict() -> bool:
    """Return whether CI is set as the services that run tests set it: true, 1 or yes."""
    return os.environ.get("CI", "").lower() in {"true", "1", "yes"}
