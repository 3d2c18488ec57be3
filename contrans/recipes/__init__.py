"""Whole experiments, each one readable file over the public functions."""
