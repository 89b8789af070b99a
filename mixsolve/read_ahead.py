"""Reading ahead on a thread of its own, into a few buffers that are used again and again."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

BUFFERS = 3
"""One is worked on, one is full, one is being filled."""


class _Abandoned(Exception):
    """Nobody reads on."""


def read_ahead(items: Callable[[Callable[[], int]], Iterator[T]]) -> Iterator[T]:
    """The items of an iterator that runs on a thread of its own, a few items ahead.

    Parameters
    ----------
    items : callable
        ``items(free_buffer)`` returns the iterator. It calls ``free_buffer()`` before it makes an item: that waits
        until one of the buffers 0 to `BUFFERS` - 1 is free, and returns its number. An item is valid until the next
        one is asked for.

    Raises
    ------
    BaseException
        What the iterator raises, after the items before.
    """
    change = threading.Condition()
    full: deque[T] = deque()
    ended: list[BaseException | None] = []
    taken, released, abandoned = 0, 0, False

    def free_buffer() -> int:
        nonlocal taken
        with change:
            change.wait_for(lambda: taken - released < BUFFERS or abandoned)
            if abandoned:
                raise _Abandoned
            taken += 1
            return (taken - 1) % BUFFERS

    def run() -> None:
        problem: BaseException | None = None
        try:
            for item in items(free_buffer):
                with change:
                    full.append(item)
                    change.notify_all()
        except BaseException as error:  # handed to whoever reads
            problem = error
        with change:
            ended.append(problem)
            change.notify_all()

    thread = threading.Thread(target=run, name="mixsolve read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            with change:
                change.wait_for(lambda: full or ended)
                if not full:
                    break
                item = full.popleft()
            yield item
            with change:
                released += 1
                change.notify_all()
        if ended[0] is not None:
            raise ended[0]
    finally:
        with change:
            abandoned = True
            change.notify_all()
        thread.join()
