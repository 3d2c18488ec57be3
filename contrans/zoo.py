"""The embedded models, where users look for them: `contrans.models.zoo`."""

from contrans.models.zoo import (
    export as export,
    is_zoo as is_zoo,
    names as names,
    path as path,
    root as root,
    tokenizer_path as tokenizer_path,
)
