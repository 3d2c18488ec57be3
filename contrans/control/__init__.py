"""What changes a model while a context lasts: vectors, gates, neurons, logits."""

from contrans.control.steer import (
    Composed as Composed,
    Steer as Steer,
    compose as compose,
    matched_norm as matched_norm,
    random_like as random_like,
    with_norms as with_norms,
)
