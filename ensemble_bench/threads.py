"""Threads of torch: one for short sums, which several only slow down, and pools whose workers have one each."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial


@contextmanager
def one() -> Iterator[None]:
    """Torch on one thread: on a handful of samples quicker than on several, and the same on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def pool(workers: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Workers with one thread of torch each; what has not begun when this ends is cancelled, what has is waited for.

    Nothing waits for the slowest of many small sums, and the number of cores changes no bit.
    """
    import torch

    before = torch.get_num_threads()
    with ThreadPoolExecutor(workers, name, initializer=partial(torch.set_num_threads, 1)) as made:
        try:
            yield made
        finally:
            made.shutdown(cancel_futures=True)
            torch.set_num_threads(before)  # some libraries of sums have one number for all threads
