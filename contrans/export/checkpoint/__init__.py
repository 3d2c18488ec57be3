"""Checkpoints with a vector baked in, which load without contrans."""
