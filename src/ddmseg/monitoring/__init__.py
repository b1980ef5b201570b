"""Watching many runs: a line of statistics a run, and a window of them against a reference."""
