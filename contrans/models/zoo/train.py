"""Train the zoo from nothing, on two cores, in less than an hour.

Two processes of one thread each work through the jobs of `plan.WORKERS`. Every job
keeps its state on disk and goes on from there when it was interrupted; a finished
job is not repeated. Up to the noise of floating point the same seed gives the same
models.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from contrans.models.zoo import batches, schedule as plan, world
from contrans.models.zoo.fast_llama import LeanLlama, fast_dtype
from contrans.models.zoo.schedule import Job
from contrans.models.zoo.tokenizer import CONTEXT, save_tokenizer, train_tokenizer

Progress = Callable[[int, int], None] | None
SAVE_EVERY = 500
HELD_OUT_TOKENS = 65_537


def train(
    out: Path | str,
    *,
    seed: int = 0,
    progress: Progress = None,
    workers: Sequence[Sequence[Job]] = plan.WORKERS,
) -> Path:
    """Train every model of the zoo into a folder that `zoo.path` reads as a root.

    Args:
        out: The folder; an interrupted training in it is continued.
        seed: Of the text, the initial weights and the order of rows.
        progress: Called with the steps done and all steps.
        workers: The jobs of each process.

    Returns:
        The folder, with one folder per model, `tokenizer/` and `training.json`.

    Raises:
        RuntimeError: when a training process ended early; its last words are told.
    """
    out = Path(out)
    (out / "work").mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer").exists():
        save_tokenizer(train_tokenizer(seed=seed), out / "tokenizer.part")
        (out / "tokenizer.part").replace(out / "tokenizer")
    total = sum(job.steps for jobs in workers for job in jobs)
    processes = [_start(out, seed, number, jobs) for number, jobs in enumerate(workers)]
    try:
        while any(process.poll() is None for process in processes):
            if progress is not None:
                progress(_done(out, workers), total)
            time.sleep(1)
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
                process.wait()
    for number, process in enumerate(processes):
        if process.returncode:
            log = (out / "work" / f"worker-{number}.log").read_text("utf-8")
            raise RuntimeError(
                f"training process {number} ended with {process.returncode}; run the "
                f"command again to go on. Its last words:\n{log[-2_000:]}"
            )
    if progress is not None:
        progress(total, total)
    _write_record(out, seed, workers)
    return out


def _start(out: Path, seed: int, number: int, jobs: Sequence[Job]) -> subprocess.Popen:
    spec = json.dumps([[j.name, j.size, j.steps, j.parent, j.keep] for j in jobs])
    command = [
        sys.executable,
        "-m",
        "contrans.models.zoo.train",
        str(out),
        str(seed),
        spec,
    ]
    with (out / "work" / f"worker-{number}.log").open("w") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def _done(out: Path, workers: Sequence[Sequence[Job]]) -> int:
    done = 0
    for job in (job for jobs in workers for job in jobs):
        record = _read_json(out / "work" / f"{job.name}.json")
        done += min(job.steps, record.get("step", 0))
    return done


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _write_record(out: Path, seed: int, workers: Sequence[Sequence[Job]]) -> None:
    models = {
        job.name: _read_json(out / "work" / f"{job.name}.json")
        for jobs in workers
        for job in jobs
    }
    record = json.dumps({"seed": seed, "models": models}, indent=1)
    (out / "training.json").write_text(record + "\n", "utf-8")


@dataclass
class Training:
    """One job at work: the model, its optimiser and where they stand."""

    job: Job
    out: Path
    seed: int
    model: LlamaForCausalLM
    optimiser: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0
    loss: float = float("nan")

    @property
    def _state(self) -> Path:
        return self.out / "work" / f"{self.job.name}.safetensors"

    def save(self) -> None:
        """Write everything needed to go on; either the old state or the new stays."""
        state = {f"model.{k}": p.detach() for k, p in self.model.named_parameters()}
        for key, parameter in self.model.named_parameters():
            for moment, value in self.optimiser.state[parameter].items():
                state[f"{moment}.{key}"] = value
        metadata = {"step": str(self.step), "seconds": str(self.seconds)}
        part = self._state.with_suffix(".part")
        save_file({k: v.contiguous() for k, v in state.items()}, part, metadata)
        part.replace(self._state)

    def restore(self) -> None:
        """Go on from the state on disk, if there is one."""
        if not self._state.exists():
            return
        with safe_open(self._state, "pt") as state, torch.no_grad():
            metadata = state.metadata()
            for key, parameter in self.model.named_parameters():
                parameter.copy_(state.get_tensor(f"model.{key}"))
                self.optimiser.state[parameter] = {
                    moment: state.get_tensor(f"{moment}.{key}")
                    for moment in ("step", "exp_avg", "exp_avg_sq")
                }
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])

    def report(self, **more: float) -> None:
        """Tell the parent process how far this is."""
        record = {
            "step": self.step,
            "steps": self.job.steps,
            "seconds": round(self.seconds, 1),
            "loss": round(self.loss, 4),
            **more,
        }
        part = self._state.with_suffix(".json.part")
        part.write_text(json.dumps(record), "utf-8")
        part.replace(self._state.with_suffix(".json"))

    def export(self, name: str) -> None:
        """Write the model in bf16, as `from_pretrained` reads it."""
        with torch.device("meta"):
            copy: Any = LlamaForCausalLM(self.model.config)
            copy = copy.to(torch.bfloat16)
        weights = {k: v.to(torch.bfloat16) for k, v in self.model.state_dict().items()}
        copy.load_state_dict(weights, assign=True)
        copy.tie_weights()
        part = self.out / "work" / f"{name}.export"
        copy.save_pretrained(part)
        for file in part.iterdir():
            file.chmod(0o644)  # safetensors writes files that only the owner reads
        if not (self.out / name).exists():
            part.replace(self.out / name)


def run_job(job: Job, out: Path, seed: int, *, compiled: bool = True) -> None:
    """Train one model of the zoo, from its last state on disk.

    Args:
        job: which model.
        out: the folder of the zoo.
        seed: of text and weights.
        compiled: compile the forward.
    """
    if (out / job.name).exists():
        return
    tokenizer = Tokenizer.from_file(str(out / "tokenizer" / "tokenizer.json"))
    training = _prepare(job, out, seed)
    training.restore()
    model, optimiser = training.model, training.optimiser
    source = (
        batches.Alignment(tokenizer, seed=seed)
        if job.aligned
        else batches.Pretraining(_stream(tokenizer, job, seed))
    )
    lean = LeanLlama(model, CONTEXT, fast_dtype())
    forward = torch.compile(lean, dynamic=False) if compiled else lean
    peak = job.rate
    while training.step < job.steps:
        began = time.perf_counter()
        length = plan.row_length(job, training.step)
        inputs, labels = source.batch(training.step, plan.STEP_TOKENS // length, length)
        for group in optimiser.param_groups:
            group["lr"] = peak * schedule(training.step, job.steps)
        loss = F.cross_entropy(
            forward(inputs).float().flatten(0, 1),
            labels.flatten(),
            ignore_index=batches.IGNORED,
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        training.step += 1
        running = training.loss if math.isfinite(training.loss) else loss.item()
        training.loss = 0.97 * running + 0.03 * loss.item()
        training.seconds += time.perf_counter() - began
        if training.step in job.keep:
            training.export(f"{job.size}-step-{training.step}")
        if training.step % SAVE_EVERY == 0:
            training.save()
        if training.step % 10 == 0:
            training.report()
    training.export(job.name)
    training.report(held_out_loss=round(_held_out(lean, tokenizer), 4))
    training._state.unlink(missing_ok=True)


def schedule(step: int, steps: int) -> float:
    """Warm up over a fortieth of the steps, then a cosine down to a twentieth."""
    warm = min(1.0, (step + 1) / max(1, min(60, steps // 10)))
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _prepare(job: Job, out: Path, seed: int) -> Training:
    if job.parent is not None:
        model: Any = AutoModelForCausalLM.from_pretrained(
            out / job.parent, dtype=torch.float32
        )
    else:
        torch.manual_seed(seed)  # a process of its own: nobody else's randomness
        model = LlamaForCausalLM(plan.SIZES[job.size].config())
    model.train()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    gains = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": gains, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
    return Training(job, out, seed, model, optimiser)


def _stream(tokenizer: Tokenizer, job: Job, seed: int):  # noqa: ANN202 - numpy
    count = job.steps * plan.STEP_TOKENS + 1
    if job.parent is not None:
        return batches.tokens(tokenizer, seed=seed, count=count, mix=world.LAST)
    return batches.curriculum(tokenizer, seed=seed, count=count)


@torch.no_grad()
def _held_out(lean: LeanLlama, tokenizer: Tokenizer) -> float:
    stream = batches.tokens(tokenizer, seed=-1, count=HELD_OUT_TOKENS)
    source = batches.Pretraining(stream)
    losses = []
    for step in range(HELD_OUT_TOKENS // 4_096):
        inputs, labels = source.batch(step, 16, 256)
        losses.append(
            F.cross_entropy(lean(inputs).float().flatten(0, 1), labels.flatten())
        )
    return torch.stack(losses).mean().item()


def main(arguments: Sequence[str]) -> None:
    """Work through the jobs of one process; `train` starts these."""
    out, seed, spec = arguments
    torch.set_num_threads(1)
    for name, size, steps, parent, keep in json.loads(spec):
        run_job(Job(name, size, steps, parent, tuple(keep)), Path(out), int(seed))


if __name__ == "__main__":
    main(sys.argv[1:])
