"""What changes a model while a context lasts: vectors, gates, neurons, logits."""
