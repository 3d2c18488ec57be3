"""Baked checkpoints of every family, and a process that knows no contrans to load them."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from contrans.control.steer import Steer
from contrans.core.types import ConceptVector
from contrans.models.lm import LM

STRANGER = """
import json, sys

sys.modules["contrans"] = None  # importing it would fail
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
ids = load_file(sys.argv[1])["ids"]
found = {}
for folder in sys.argv[3:]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        found[folder] = model(ids).logits.contiguous()
    model.save_pretrained(folder + "-again")
    again = AutoModelForCausalLM.from_pretrained(folder + "-again", dtype=torch.float32)
    with torch.no_grad():
        found[folder + "-again"] = again(ids).logits.contiguous()
save_file(found, sys.argv[2])
print(json.dumps([m for m in sys.modules if m.startswith("contrans.")]))
"""


def write_model(lm: LM, folder: Path, **options) -> Path:
    """A checkpoint on disk, as anybody has one."""
    lm.model.save_pretrained(folder, **options)
    lm.tokenizer.save_pretrained(folder)
    return folder


def token_ids() -> torch.Tensor:
    """Two rows of tokens, BOS among them."""
    drawn = torch.randint(3, 250, (2, 12), generator=torch.Generator().manual_seed(5))
    drawn[:, 0] = 0
    return drawn


@torch.no_grad()
def logits(lm: LM, control=None) -> torch.Tensor:
    """What a model says under a control."""
    if control is None:
        return lm.model(token_ids()).logits
    with control.on(lm):
        return lm.model(token_ids()).logits


def random_vector(lm: LM, *, seed: int = 0, **fields) -> ConceptVector:
    """A direction at every block."""
    drawn = torch.randn(
        lm.layers, lm.hidden, generator=torch.Generator().manual_seed(seed)
    )
    return ConceptVector(
        drawn,
        layers=tuple(range(lm.layers)),
        model=lm.fingerprint,
        name=lm.name,
        **fields,
    )


def random_steer(lm: LM, *, strength: float = 1.5, **options) -> Steer:
    """A strong edit of every block."""
    return Steer(random_vector(lm), strength=strength, **options)


def strangers(folders: list[Path], scratch: Path) -> dict[str, torch.Tensor]:
    """Logits of folders in a fresh process in which contrans cannot be imported.

    Each folder is loaded, run, saved again under NAME-again, loaded and run again.
    """
    save_file({"ids": token_ids()}, scratch / "ids.safetensors")
    inputs, outputs = scratch / "ids.safetensors", scratch / "logits.safetensors"
    ran = subprocess.run(
        [sys.executable, "-c", STRANGER, inputs, outputs, *folders],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert json.loads(ran.stdout.splitlines()[-1]) == []
    return load_file(scratch / "logits.safetensors")
