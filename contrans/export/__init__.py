"""Out of contrans: baked checkpoints, GGUF, lm-evaluation-harness, neighbouring tools."""
