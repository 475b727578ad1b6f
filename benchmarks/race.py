"""Sides that answer the same questions in turn, so that a busy machine slows all of them alike.

Each side is a process of its own. The threads of some libraries go on looking for work for a while
after an answer, which they would take from the next side: it begins when that while is over.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.frames import percentiles, sample_frames, sample_recording

Question = tuple[NDArray[np.uint8], str]
"""A frame and what is asked about it."""
Ask = Callable[[NDArray[np.uint8], str], str]
Side = Callable[[], Ask]
"""Makes an `Ask` in the side's own process: a function of a module, or a partial of one."""
Timed = Callable[[NDArray[np.uint8], str], tuple[str, float]]
"""Gives the answer, and the ms from the frame and the question to it."""
LOOKING = 0.005
"""Seconds that torch's threads look for work after an answer, and some more."""


def race(sides: Mapping[str, Side], count: int) -> dict[str, object]:
    """Ask all sides, ours first, the recording's questions about `count` frames.

    The sides take turns frame by frame, each with all questions about it one after the other.
    `by_question`: then they take turns question by question, so that each finds the caches full of
    the others' weights.

    Gives for each other side how much faster ours is, and its share of equal answers; for the last
    side also at the top.
    """
    frames = sample_frames(count)
    instructions = [question.instruction for question in sample_recording().questions]
    questions = [(frame, instruction) for frame in frames for instruction in instructions]
    with ExitStack() as stack:
        asks = {name: stack.enter_context(apart(side)) for name, side in sides.items()}
        turn = len(instructions)
        _told(asks, questions[:turn], turn)  # whatever a side sets up for new shapes
        compared = _compared(_told(asks, questions, turn))
        by_question = _compared(_told(asks, questions, 1))
    last = list(compared['against'].values())[-1]
    return {'questions': len(questions), **compared, **last, 'by_question': by_question}


def _told(
    asks: Mapping[str, Timed], questions: Sequence[Question], turn: int
) -> dict[str, list[tuple[str, float]]]:
    """Ask all sides the questions, so many at a turn; gives (answer, ms) by side."""
    said: dict[str, list[tuple[str, float]]] = {name: [] for name in asks}
    for start in range(0, len(questions), turn):
        for name, ask in asks.items():
            said[name] += [ask(*question) for question in questions[start : start + turn]]
    return said


def _compared(said: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, Any]:
    times = {name: [ms for _, ms in answers] for name, answers in said.items()}
    others = [name for name in said if name != 'ours']
    against = {}
    for name in others:
        pairs = zip(said['ours'], said[name], strict=True)
        against[name] = {
            'equal_answers': float(np.mean([mine[0] == other[0] for mine, other in pairs])),
            'speedup_p50': round(float(np.median(times[name]) / np.median(times['ours'])), 2),
            'speedup_total': round(sum(times[name]) / sum(times['ours']), 2),
        }
    spread = {f'{name}_ms': percentiles(values) for name, values in times.items()}
    return {**spread, 'against': against}


@contextmanager
def apart(side: Side) -> Iterator[Timed]:
    """Run a side in a process of its own, which ends with the context."""
    context = multiprocessing.get_context('spawn')
    here, there = context.Pipe()
    process = context.Process(target=_answer, args=(side, there), daemon=True)
    process.start()
    there.close()  # else a process that died would be waited for

    def ask(frame: NDArray[np.uint8], instruction: str) -> tuple[str, float]:
        time.sleep(LOOKING)
        here.send((frame, instruction))
        answer, milliseconds = here.recv()
        return answer, milliseconds

    try:
        yield ask
    finally:
        here.close()
        process.join()


def _answer(side: Side, asked: Connection) -> None:
    """Answer until the other end is closed."""
    ask = side()
    while True:
        try:
            frame, instruction = asked.recv()
        except EOFError:
            return
        start = time.perf_counter()
        answer = ask(frame, instruction)
        asked.send((answer, (time.perf_counter() - start) * 1000))
