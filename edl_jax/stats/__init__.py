"""Statistics of runs: intervals, tests, effect sizes."""
