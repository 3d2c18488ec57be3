"""The version of contrans, as results and files carry it."""

__version__ = "0.1.0"
