"""Properties computed from a loss, and its description."""
