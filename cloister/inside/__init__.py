"""Programs that run inside the containers: Python's standard library and nothing else."""
