"""Read the next items during the work on the current one."""

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
    """Yield each item with the result of `load`, in order, while `ahead` threads load the next items.

    If `device` is a GPU, the work of `load` there runs on its own stream, beside the computation; `load` then returns a
    tensor or a tuple with tensors. An error in `load` is raised when its item is due.
    """
    side = torch.cuda.Stream(device) if device is not None and device.type == "cuda" else None

    def beside(item: Item) -> tuple[Loaded, torch.cuda.Event | None]:
        if side is None:
            return load(item), None
        with torch.cuda.stream(side):  # also selects the GPU in this thread, whose default is the first one
            return load(item), side.record_event()

    def waited_for(due: "Future[tuple[Loaded, torch.cuda.Event | None]]") -> Loaded:
        loaded, done = due.result()
        if done is not None:
            computing = torch.cuda.current_stream(device)
            computing.wait_event(done)
            for part in loaded if isinstance(loaded, tuple) else (loaded,):
                if isinstance(part, torch.Tensor) and part.is_cuda:
                    part.record_stream(computing)  # otherwise its memory could be reused during reading
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
