"""Figures, each a function of plain data."""
