"""The ground floor: values, files, keys, seeds; it imports nothing else of contrans."""
