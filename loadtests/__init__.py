"""`nox -s loadtest`, and what runs inside Locust: the only place that imports it."""
