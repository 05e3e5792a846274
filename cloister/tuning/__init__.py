"""Finding the settings that serve the most pages: what to try next, and what to recommend."""
