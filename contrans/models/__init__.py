"""A model and every forward of it: loading, hooks, batches, scoring."""
