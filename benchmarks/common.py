"""What every benchmark shares: models, prompts, clocks, and how numbers are printed.

Times are of one process. Methods run in an order drawn anew for every round; the first
round is thrown away and the median of the others is taken. On a CPU the clock is the
process's CPU time on one thread, since wall time on a machine that does anything else
is noise; on a GPU it is wall time with the device synchronised.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import scipy.linalg.blas  # noqa: F401  (loads the BLAS whose threads are limited)
import torch
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from contrans.core.types import ConceptVector
from contrans.data import load_corpus
from contrans.data.catalogue import EMOTIONS
from contrans.library.concepts import load_concept
from contrans.models.lm import LM
from contrans.models.loading import wrap

VOCABULARY = 32_000
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ratio:
    """How many times one method's time another one takes, and what is asked of it."""

    name: str
    value: float
    bar: float | None = None
    at_least: bool = True

    @property
    def verdict(self) -> str:
        """Whether the bar is met."""
        if self.bar is None:
            return ""
        met = self.value >= self.bar if self.at_least else self.value <= self.bar
        return "met" if met else "MISSED"


@dataclass(frozen=True)
class Report:
    """What one benchmark found."""

    job: str
    on: str
    seconds: dict[str, list[float]]
    """Per method, one number a round; the first round is not among them."""
    ratios: list[Ratio]
    checks: dict[str, Any] = field(default_factory=dict)
    """How far the answers of the methods differ."""
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as Markdown."""
        out = [f"### {self.job}", "", self.on, ""]
        if self.seconds:
            out += ["| method | median s | spread |", "| --- | --- | --- |"]
        for name, times in self.seconds.items():
            middle = statistics.median(times)
            spread = (max(times) - min(times)) / middle if middle else 0.0
            out.append(f"| {name} | {middle:.4g} | {100 * spread:.0f}% |")
        if self.ratios:
            out += ["", "| ratio | value | bar | |", "| --- | --- | --- | --- |"]
        for ratio in self.ratios:
            sign = "≥" if ratio.at_least else "≤"
            bar = "" if ratio.bar is None else f"{sign} {ratio.bar:g}"
            out.append(
                f"| {ratio.name} | {ratio.value:.3g} | {bar} | {ratio.verdict} |"
            )
        out += ["", *(f"- {name}: {value}" for name, value in self.checks.items())]
        return [*out, *(f"- {note}" for note in self.notes), ""]


def arguments(description: str) -> argparse.Namespace:
    """Options that every program takes, with one thread and a quiet library set."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes, 3 rounds")
    parser.add_argument(
        "--rounds", type=int, default=None, help="rounds; first dropped"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--data", type=Path, default=None, help="published data sets")
    found = parser.parse_args()
    found.rounds = found.rounds or (3 if found.quick else 5)
    torch.set_num_threads(found.threads)
    threadpool_limits(found.threads, user_api="blas")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return found


def show(reports: Sequence[Report], options: argparse.Namespace) -> None:
    """Print reports for a person, or as JSON."""
    for report in reports:
        text = json.dumps(asdict(report)) if options.json else "\n".join(report.lines())
        print(text, flush=True)


def clock(device: str) -> Callable[[], float]:
    """CPU time of the process, or wall time behind a synchronised GPU."""
    if device == "cpu":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def race(
    methods: dict[str, Callable[[], Any]],
    options: argparse.Namespace,
) -> dict[str, list[float]]:
    """Times of every method, interleaved, without the first round."""
    now, drawn = clock(options.device), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(options.rounds):
        for name in drawn.sample(list(methods), len(methods)):
            start = now()
            methods[name]()
            times[name].append(now() - start)
    return {name: values[1:] for name, values in times.items()}


def ratio(times: dict[str, list[float]], over: str, under: str) -> float:
    """Median over rounds of one time divided by another of the same round."""
    return statistics.median(
        a / b for a, b in zip(times[over], times[under], strict=True)
    )


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on the texts that come with contrans."""
    texts = [text for name in EMOTIONS for text in _scenarios(name)]
    texts += load_corpus(None).texts
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


@cache
def _scenarios(name: str) -> tuple[str, ...]:
    pairs = load_concept(name).refine
    return (*pairs.positive, *pairs.negative)


def prompts(name: str, n: int) -> list[str]:
    """`n` scenarios with and `n` without an emotion."""
    pairs = load_concept(name).refine
    return [*pairs.positive[:n], *pairs.negative[:n]]


def random_lm(
    *,
    width: int = 512,
    depth: int = 12,
    dtype: str = "float32",
    device: str = "cpu",
    context: int = 2048,
) -> LM:
    """A random Llama; the same weights in every program."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=round(width * 2.6875),
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(device, getattr(torch, dtype))
    return wrap(model, tokenizer(), name=f"random Llama {depth} x {width}")


def random_vector(lm: LM, *, seed: int = 0, length: float = 3.0) -> ConceptVector:
    """A vector of equal length at every layer."""
    drawn = torch.randn(
        lm.layers, lm.hidden, generator=torch.Generator().manual_seed(seed)
    )
    return ConceptVector(
        length * drawn / drawn.norm(dim=1, keepdim=True),
        layers=tuple(range(lm.layers)),
        model=lm.fingerprint,
        name=lm.name,
    )


def fast_bfloat16(device: str = "cpu") -> bool:
    """Whether bf16 products are at least as fast here as those of float32."""
    if device != "cpu":
        return True
    x = torch.randn(256, 512)
    y = x.bfloat16()

    def seconds(z: torch.Tensor) -> float:
        z @ z.mT
        start = time.process_time()
        for _ in range(5):
            z @ z.mT
        return time.process_time() - start

    return seconds(y) < 1.2 * seconds(x)


def machine() -> dict[str, str]:
    """What the numbers were taken on."""
    import transformers

    import contrans

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return {
        "processor": f"{name}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "load": "/".join(f"{x:.1f}" for x in os.getloadavg()),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "contrans": contrans.__version__,
    }
