"""Whole experiments: the transplant, A/B tests, checks, the tables of the paper."""
