"""The published data, run on real models."""
