"""What learns from a past: a configuration each, and no code of its own in the recipe."""
