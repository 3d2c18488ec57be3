"""Tasks: one file for each kind of question that is put to a model."""
