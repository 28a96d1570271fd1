"""Several transfers at once, all of which stop when one fails or somebody presses Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from ollamaq.registry.session import Session, Stopped

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(run: Callable[[T], R], items: Sequence[T], session: Session, threads: int) -> list[R]:
    """``run`` on each item, in up to so many threads; results in the order of the items.

    Raises:
        Exception: the first one that was not a consequence of another.
    """
    pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="transfer")
    futures = [pool.submit(run, item) for item in items]
    try:
        for future in as_completed(futures):
            future.result()
    except BaseException:
        session.stop.set()
        pool.shutdown(cancel_futures=True)
        causes = (future.exception() for future in futures if not future.cancelled())
        first = next((cause for cause in causes if cause and not isinstance(cause, Stopped)), None)
        if first:
            raise first from None
        raise
    pool.shutdown()
    return [future.result() for future in futures]
