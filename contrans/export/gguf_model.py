"""Models as GGUF, where users look for them: `contrans.export.gguf.model`."""

from contrans.export.gguf.model import write_model as write_model
