"""Generations side by side: one token of each after another, on one thread at a time."""

import copy
import random
import statistics
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Condition
from typing import Any

import torch
from common import clock
from transformers import StoppingCriteria

from contrans.models.lm import LM


def twin(lm: LM) -> LM:
    """Another model with the same weights in memory, and hooks of its own."""
    shared = {id(w): w for w in (*lm.model.parameters(), *lm.model.buffers())}
    return replace(lm, model=copy.deepcopy(lm.model, shared))


class Turns:
    """Whose turn it is, and how long each turn took."""

    def __init__(self, names: list[str], now: Callable[[], float]) -> None:
        self.order, self.now = deque(names), now
        self.times: dict[str, list[float]] = {name: [] for name in names}
        self._changed = Condition()
        self._start = 0.0

    def begin(self, name: str) -> None:
        """Wait for one's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self.order[0] == name)
        self._start = self.now()

    def end(self, name: str, *, for_good: bool = False) -> None:
        """Let the next one go on."""
        self.times[name].append(self.now() - self._start)
        with self._changed:
            self.order.popleft() if for_good else self.order.rotate(-1)
            self._changed.notify_all()


class _Wait(StoppingCriteria):
    """Ends a turn after every token; stops nothing."""

    def __init__(self, turns: Turns, name: str) -> None:
        self.turns, self.name = turns, name

    def __call__(
        self, input_ids: torch.Tensor, *_args: Any, **_kw: Any
    ) -> torch.Tensor:
        self.turns.end(self.name)
        self.turns.begin(self.name)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def lockstep(
    methods: dict[str, Callable[[StoppingCriteria], Any]], options: Any
) -> dict[str, list[float]]:
    """Median seconds of a token, for every method and round but the first round.

    The first token, which reads the prompt, and the last, after which a generation is
    tidied up, do not count.

    Args:
        methods: each generates with the criterion that it is given.
        options: of the program, see `common.arguments`.
    """
    drawn = random.Random(0)
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(options.rounds):
        turns = Turns(drawn.sample(list(methods), len(methods)), clock(options.device))

        def run(name: str, turns: Turns = turns) -> None:
            torch.set_num_threads(options.threads)  # each thread has its own number
            turns.begin(name)
            try:
                methods[name](_Wait(turns, name))
            finally:
                turns.end(name, for_good=True)

        with ThreadPoolExecutor(len(methods)) as pool:
            for done in [pool.submit(run, name) for name in methods]:
                done.result()
        for name, times in turns.times.items():
            found[name].append(statistics.median(times[1:-1]))
    return {name: times[1:] for name, times in found.items()}
