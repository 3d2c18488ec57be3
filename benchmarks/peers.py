"""Other tools, each in an environment of its own, against us and the published loop.

    python benchmarks/peers.py                 make the environments and measure
    python benchmarks/peers.py --only repeng   one of them

An environment holds the peer, with whatever versions it wants, and contrans. There the
peer, contrans and the published loop run in one process, interleaved. Nothing of this is
a dependency of contrans; the environments live in `benchmarks/.peers`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

PEERS = {
    "steering-vectors": "steering-vectors==0.12.2",
    "repeng": "repeng==0.4.0",
    "nnsight": "nnsight==0.8.1",
}
HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".peers"


def environment(peer: str) -> Path:
    """The Python of a peer's environment, made on first use.

    Raises:
        subprocess.CalledProcessError: when the peer cannot be installed.
    """
    folder = ENVIRONMENTS / peer
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = folder / "ready"
    if done.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    torch = f"torch=={version('torch').partition('+')[0]}"  # the one that runs us
    install = [str(python), "-m", "pip", "install", "-q", torch]
    install += [PEERS[peer], "-e", str(HERE.parent)]
    subprocess.run(install, check=True, stdout=sys.stderr)
    done.touch()
    return python


def steering_vectors(lm, texts: list[str], vector) -> dict[str, Callable]:
    """Collecting and generating by steering-vectors."""
    import torch
    from steering_vectors import SteeringVector, train_steering_vector

    half = len(texts) // 2
    samples = list(zip(texts[:half], texts[half:], strict=True))
    steering = SteeringVector({6: vector[6].to(lm.dtype)}, layer_type="decoder_block")

    def train():
        return train_steering_vector(
            lm.model, lm.tokenizer, samples, batch_size=32, read_token_index=-1
        ).layer_activations

    def difference(vectors):
        return torch.stack([vectors[layer] for layer in range(lm.layers)])

    def generate(run):
        with steering.apply(lm.model):
            return run()

    return {"collect": train, "difference": difference, "generate": generate}


def repeng(lm, texts: list[str], vector) -> dict[str, Callable]:
    """Collecting and generating by repeng."""
    import torch
    from repeng import ControlModel, ControlVector
    from repeng.extract import batched_get_hiddens

    def hiddens():
        layers = list(range(lm.layers))
        return batched_get_hiddens(lm.model, lm.tokenizer, texts, layers, 32)

    def difference(states):
        means = [_halves(torch.from_numpy(states[layer])) for layer in range(lm.layers)]
        return torch.stack(means)

    def generate(run):
        control = ControlModel(lm.model, [6])
        try:
            push = ControlVector(lm.model.config.model_type, {6: vector[6].numpy()})
            control.set_control(push)
            return run()
        finally:
            control.unwrap()

    return {"collect": hiddens, "difference": difference, "generate": generate}


def nnsight(lm, texts: list[str], _vector) -> dict[str, Callable]:
    """Collecting by nnsight."""
    import torch
    from nnsight import LanguageModel

    traced = LanguageModel(lm.model, tokenizer=lm.tokenizer)

    def collect():
        found = []
        for start in range(0, len(texts), 32):
            with traced.trace(texts[start : start + 32]):
                saved = list().save()
                for block in traced.model.layers:
                    saved.append(block.output)
            found.append([(s if torch.is_tensor(s) else s[0])[:, -1] for s in saved])
        return found

    def difference(batches):
        return torch.stack(
            [_halves(torch.cat(parts)) for parts in zip(*batches, strict=True)]
        )

    return {"collect": collect, "difference": difference}


def _halves(states):
    """Mean of the first half of the rows minus that of the second."""
    half = len(states) // 2
    return states[:half].mean(0) - states[half:].mean(0)


def inside(peer: str) -> None:
    """Measure one peer; runs in its environment."""
    import torch
    from collect import published
    from common import (
        Ratio,
        Report,
        arguments,
        prompts,
        race,
        random_lm,
        random_vector,
        ratio,
        show,
    )
    from generate import tokens
    from lockstep import lockstep, twin
    from transformers import StoppingCriteria

    from contrans.control.steer import Steer
    from contrans.models.collect import collect

    sys.argv = [sys.argv[0], *sys.argv[3:]]
    options = arguments(peer)
    lm = random_lm()
    lm.model.generation_config.eos_token_id = None
    texts = prompts("anger", 20 if options.quick else 100)
    lm.tokenizer.padding_side = "left"
    vector = random_vector(lm)
    makers = {
        "steering-vectors": steering_vectors,
        "repeng": repeng,
        "nnsight": nnsight,
    }
    theirs = makers[peer](lm, texts, vector)
    states = collect(lm, texts).values
    ours = torch.stack([_halves(states[:, layer]) for layer in range(lm.layers)])
    with torch.no_grad():
        gap = theirs["difference"](theirs["collect"]()).cpu() - ours
    inner = slice(0, lm.layers - 1)  # many tools give the last state after the norm
    error = float(gap[inner].norm() / ours[inner].norm())
    checks = {"mean differences, relative error below the last block": f"{error:.1e}"}
    times = race(
        {
            peer: theirs["collect"],
            "contrans": lambda: collect(lm, texts),
            "published loop": lambda: published(lm, texts),
        },
        options,
    )
    ratios = [Ratio(f"{peer} / contrans", ratio(times, peer, "contrans"), 1.7)]
    on = f"{len(texts)} prompts"
    found = [Report(f"collect, {peer}", on, times, ratios, checks)]
    if "generate" in theirs:
        ids = torch.tensor([lm.encode(texts[:1])[0]])
        new = 16 if options.quick else 64
        steer = Steer(vector, layers=(6,), strength=1.0)

        def plain(watch: StoppingCriteria | None = None):
            return tokens(lm, ids, new, None, watch)

        def their(watch: StoppingCriteria | None = None):
            return theirs["generate"](partial(plain, watch))

        same = torch.equal(their(), tokens(lm, ids, new, steer))
        times = lockstep(
            {
                peer: their,
                "contrans": partial(tokens, twin(lm), ids, new, steer),
                "unsteered": partial(tokens, twin(lm), ids, new, None),
            },
            options,
        )
        ratios = [
            Ratio(f"{peer} / contrans", ratio(times, peer, "contrans"), 0.98),
            Ratio("unsteered / contrans", ratio(times, "unsteered", "contrans"), 0.98),
        ]
        checks = {"same tokens": same}
        found.append(
            Report(
                f"generate, {peer}",
                f"{new} tokens, batch 1; seconds a token",
                times,
                ratios,
                checks,
            )
        )
    show(found, options)


def measure(peer: str, options: list[str]) -> list[dict]:
    """A peer's reports; one that says why, where it cannot be measured here."""
    try:
        python = environment(peer)
        command = [str(python), __file__, "--inside", peer, "--json", *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        why = (error.stderr or str(error)).strip().splitlines()[-1:]
        note = f"could not be measured here: {why[0] if why else error}"
        return [{"job": f"collect, {peer}", "on": PEERS[peer], "notes": [note]}]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
    else:
        chosen, rest = list(PEERS), sys.argv[1:]
        if "--only" in rest:
            at = rest.index("--only")
            chosen, rest = [rest[at + 1]], rest[:at] + rest[at + 2 :]
        for name in chosen:
            for report in measure(name, rest):
                print(json.dumps(report), flush=True)
