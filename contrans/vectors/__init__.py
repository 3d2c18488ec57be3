"""Linear algebra only: concept vectors, maps between models, diagnostics."""
