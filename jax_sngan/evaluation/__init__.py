"""Scores of what a run, a folder or a file holds."""
