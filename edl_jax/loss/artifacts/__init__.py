"""Stored losses: files, networks, formulas, and the shipped priors."""
