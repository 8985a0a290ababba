"""Reading what is needed next while the present item is worked on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def read_ahead(
    items: Iterable[Item], load: Callable[[Item], Loaded], device: torch.device | None = None, ahead: int = 1
) -> Iterator[tuple[Item, Loaded]]:
    """Yield each item with what `load` makes of it, in order; meanwhile `ahead` threads load one of the next each.

    Where `device` is a GPU, what `load` does there runs beside the computation, on a stream of its own; it returns a
    tensor or a tuple in which some are. An error in `load` is raised when its item is due.
    """
    side = torch.cuda.Stream(device) if device is not None and device.type == "cuda" else None

    def beside(item: Item) -> tuple[Loaded, torch.cuda.Event | None]:
        if side is None:
            return load(item), None
        with torch.cuda.stream(side):  # of this thread, which otherwise has the first GPU as its own
            return load(item), side.record_event()

    def waited_for(due: "Future[tuple[Loaded, torch.cuda.Event | None]]") -> Loaded:
        loaded, done = due.result()
        if done is not None:
            computing = torch.cuda.current_stream(device)
            computing.wait_event(done)
            for part in loaded if isinstance(loaded, tuple) else (loaded,):
                if isinstance(part, torch.Tensor) and part.is_cuda:
                    part.record_stream(computing)  # else its memory could be filled anew while it is still read
        return loaded

    with ThreadPoolExecutor(max_workers=ahead) as threads:
        due: deque[tuple[Item, Future[tuple[Loaded, torch.cuda.Event | None]]]] = deque()
        for item in items:
            due.append((item, threads.submit(beside, item)))
            if len(due) > ahead:
                first, loading = due.popleft()
                yield first, waited_for(loading)
        while due:
            first, loading = due.popleft()
            yield first, waited_for(loading)
