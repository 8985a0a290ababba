"""Reading what is needed next while the present item is worked on."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def read_ahead(items: Iterable[Item], load: Callable[[Item], Loaded]) -> Iterator[tuple[Item, Loaded]]:
    """Yield each item with what `load` makes of it, in order; a thread loads the next one meanwhile.

    An error in `load` is raised when its item is due.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        due: tuple[Item, Future[Loaded]] | None = None
        for item in items:
            following = (item, thread.submit(load, item))
            if due is not None:
                yield due[0], due[1].result()
            due = following
        if due is not None:
            yield due[0], due[1].result()
