"""The watchdog: finds sick replicas by what they do, takes them out, and brings them back."""
