"""What a person sees: progress on stderr, plain tables on stdout, silence elsewhere."""

import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer

from contrans.cli.basics import debugging, visible
from contrans.report.terminal import table as table


def quiet() -> None:
    """Silence transformers and its bars, here and not in the library.

    Downloads keep their bars where a person watches: they can take an hour.
    """
    if debugging():
        return
    warnings.simplefilter("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if sys.stderr.isatty():
        enable_progress_bars()


def check_choice(option: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is not one of a few.

    Args:
        option: as it is typed.
        value: what was given.
        known: what can be given.

    Raises:
        KeyError: naming the nearest.
    """
    from contrans.core.registry import unknown

    if value not in known:
        raise unknown(option, value, known)


def note(message: str) -> None:
    """A line for the person, away from the results on stdout."""
    typer.echo(visible(message), err=True)


EVERY = 30.0
"""Seconds between lines about a stage that goes on, where there is no terminal."""


class Bars:
    """A progress bar per stage on stderr, with the time left.

    Without a terminal it is a line every `EVERY` seconds, and one when a stage is done.

    Args:
        clock: seconds that pass, of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.used = False
        self._clock = clock
        self._told = clock()
        self._begun: dict[str, tuple[float, int]] = {}
        self._progress: Any = None
        self._waiting: Any = None
        self._tasks: dict[str, Any] = {}
        self._done: set[str] = set()

    def __enter__(self) -> "Bars":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description:<24}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._progress.start()
            self._waiting = self._progress.add_task("loading", total=None)
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """How far a stage is."""
        self.used = True
        if self._progress is None:
            self._tell(stage, done, total)
            return
        if self._waiting is not None:
            self._progress.remove_task(self._waiting)
            self._waiting = None
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    def _tell(self, stage: str, done: int, total: int) -> None:
        """A line, when it is time for one."""
        now = self._clock()
        start, before = self._begun.setdefault(stage, (now, done))
        if done >= total:
            if stage not in self._done:
                self._done.add(stage)
                note(f"{stage}: {total} done")
        elif now - self._told >= EVERY and done > before:
            left = round((now - start) / (done - before) * (total - done))
            note(f"{stage}: {done} of {total}, about {left // 60}:{left % 60:02} left")
        else:
            return
        self._told = now

    def stage(self, name: str) -> Callable[[int, int], None]:
        """The callback of one stage, as the library takes it."""
        return lambda done, total: self(name, done, total)

    def note(self, message: str) -> None:
        """A line above the bars."""
        if self._progress is None:
            note(message)
        else:
            self._progress.console.print(
                visible(message), markup=False, highlight=False
            )
