"""Random numbers of a job: seeds that follow from its seed, and global generators fenced in."""

from __future__ import annotations

import hashlib
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_SEED = 2**63 - 1
"""Largest seed of a job."""

_NUMPY_SEEDS = 2**32
# The global generators are one for the whole process: whoever has set them needs them alone.
_alone = threading.RLock()


def derived_seed(seed: int, expert: str, item: int = 0) -> int:
    """Return the seed of one item (image, chunk, object) of a job, in [0, 2**63).

    It is the beginning of SHA-256 over the three values, so that items and experts of one job
    draw unrelated numbers, on any machine the same.
    """
    digest = hashlib.sha256(f'{seed}\0{expert}\0{item}'.encode()).digest()
    return int.from_bytes(digest[:8], 'big') >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set the global generators of Python, numpy and torch, and put them back afterwards.

    For code that draws from them whatever generator it is given. numpy and torch are touched only
    where they are loaded already; of torch, the generators of the CPU and of every GPU in use.
    One thread at a time is inside; the same thread may enter again.
    """
    with _alone:
        python, numpy_state = random.getstate(), _numpy_state()
        torch_state = _torch_state()
        random.seed(seed)
        if numpy_state is not None:
            sys.modules['numpy'].random.seed(seed % _NUMPY_SEEDS)
        if torch_state is not None:
            sys.modules['torch'].manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            if numpy_state is not None:
                sys.modules['numpy'].random.set_state(numpy_state)
            if torch_state is not None:
                _put_back(*torch_state)


def _numpy_state() -> Any:
    return sys.modules['numpy'].random.get_state() if 'numpy' in sys.modules else None


def _torch_state() -> tuple[Any, Any] | None:
    torch = sys.modules.get('torch')
    if torch is None or not hasattr(torch, 'get_rng_state'):  # being imported by another thread
        return None
    gpus = torch.cuda.get_rng_state_all() if _gpu_in_use(torch) else None
    return torch.get_rng_state(), gpus


def _put_back(cpu: Any, gpus: Any) -> None:
    torch = sys.modules['torch']
    torch.set_rng_state(cpu)
    if gpus is not None:
        torch.cuda.set_rng_state_all(gpus)


def _gpu_in_use(torch: Any) -> bool:
    return bool(torch.cuda.is_available() and torch.cuda.is_initialized())
