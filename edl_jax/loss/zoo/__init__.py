"""Losses of the literature, one subject a file; `catalogue` lists them."""
