"""GPUs that are none: what torch makes on `cuda` is computed on the CPU, and must not meet what lies elsewhere.

As in torch, a device belongs to a storage: it is noted there, and all that shares the storage has it, such as views,
parameters and what a file holds. Each operation, also of the backward pass, is refused where torch refuses it: tensors
of two devices, a generator of another kind of device, `numpy()` of a tensor on a GPU. `cuda` without a number is the
current GPU of the thread, and a new thread begins with the first.

What this cannot see: CUDA's kernels (operations that it lacks, their rounding, another order of sums), which operations
autocast takes for CUDA (the CPU's list serves), memory, and races: streams and events do nothing, and whatever does not
block is done at once. It lets pass what is rare: gradients across devices, and CPU tensors without dimensions as
arguments of operations that take them as numbers only in part. What it does not know, such as other functions of
`torch.cuda`, fails as it does in a torch without CUDA.
"""

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")
FACTORIES = "arange empty empty_strided eye full linspace normal ones rand randint randn randperm tensor zeros"
LIKE = "empty_like full_like ones_like rand_like randint_like randn_like zeros_like"
NEW = "new_empty new_full new_ones new_tensor new_zeros"
RANDOM = "bernoulli_ cauchy_ exponential_ geometric_ log_normal_ normal_ random_ uniform_"
COLLECTIVES = "all_gather all_gather_into_tensor all_reduce broadcast reduce reduce_scatter_tensor"
ACROSS_DEVICES = {"copy_", "_foreach_copy_"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


def device_of(tensor: Tensor) -> torch.device:
    return getattr(tensor.untyped_storage(), "fake_device", CPU)


class _Thread(threading.local):
    """What each thread has for itself: its current GPU and stream, and where the backward pass runs that it is in."""

    gpu = 0
    stream: Any = None
    backward: torch.device | None = None


class FakeCuda:
    """`count` GPUs with so many `free` bytes each; `used` are those on which anything was made so far."""

    def __init__(self, count: int = 2, free: int = 16 * 2**30, bfloat16: bool = True) -> None:
        self.count, self.free, self.bfloat16 = count, free, bfloat16
        self.used: set[torch.device] = set()
        self.thread = _Thread()
        self.backends = ""  # of the process group, as the code asks for them

    def device(self, name: torch.device | str | int) -> torch.device:
        """Return the device that is meant, with its number; a number alone is a GPU's."""
        device = torch.device("cuda", name) if isinstance(name, int) else torch.device(name)
        if device.type != "cuda":
            return torch.device(device.type)
        number = self.thread.gpu if device.index is None else device.index
        if number >= self.count:
            raise RuntimeError("CUDA error: invalid device ordinal")
        return torch.device("cuda", number)

    def place(self, tensor: Tensor, device: torch.device, pinned: bool = False) -> Tensor:
        """Say that a tensor, which shares its storage with no other, lies on `device`."""
        if device != CPU:
            self.used.add(device)
        if pinned and device != CPU:
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        storage = tensor.untyped_storage()
        storage.fake_device, storage.fake_pinned = device, pinned
        return tensor

    def move(self, original: Callable) -> Callable:
        """Return `Tensor.to`: to another device it copies."""

        @functools.wraps(original)
        def to(tensor: Tensor, *args: Any, **options: Any) -> Tensor:
            if "other" in options:
                args = (options.pop("other"), *args)
            if args and isinstance(args[0], Tensor):
                args = (args[0].device, args[0].dtype, *args[1:])
            name = options.pop("device", None)
            if args and (args[0] is None or isinstance(args[0], torch.device | str | int)):
                name, *args = args
            device = tensor.device if name is None else self.device(name)
            if device == tensor.device:
                return original(tensor, CPU, *args, **options)
            return self.place(original(tensor, CPU, *args[:2], **{**options, "copy": True}), device)

        return to

    def make(self, original: Callable) -> Callable:
        """Return a function that makes tensors on the given device or, without one, where its first argument lies."""

        @functools.wraps(original)
        def factory(*args: Any, device: Any = None, pin_memory: bool = False, **options: Any) -> Tensor:
            beside = args[0].device if args and isinstance(args[0], Tensor) else CPU
            device = beside if device is None else self.device(device)
            check_generator(options.get("generator"), device)
            return self.place(original(*args, **options), device, pin_memory)

        return factory

    def check(self, function: Any, args: tuple, kwargs: dict[str, Any]) -> torch.device:
        """Return where an operation runs, or raise RuntimeError where torch refuses what it is given."""
        name, changes = function.overloadpacket.__name__, function._schema.is_mutable
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not tensors:
            return self.thread.backward or CPU
        if name in ACROSS_DEVICES:
            return tensors[0].device
        if name in INDEXED:
            first, indices = args[0].device, [index.device for index in args[1] if index is not None]
            if any(device not in (first, CPU) for device in indices):
                raise RuntimeError(
                    f"indices should be either on cpu or on the same device as the indexed tensor ({first})"
                )
            tensors = [args[0], *tree_leaves(args[2:3])]
        devices = {
            tensor.device: None
            for number, tensor in enumerate(tensors)
            if tensor.dim()
            or tensor.device != CPU
            or (changes and (number == 0 or any(tensor is value for value in kwargs.values())))
        }
        if len(devices) > 1:
            one, other, *_ = devices
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{one} and {other}! (when checking the arguments of {function})"
            )
        return next(iter(devices), CPU)

    def collective(self, original: Callable) -> Callable:
        """NCCL knows no CPU, and each process must use a GPU of its own: here the one of its number on the machine."""

        @functools.wraps(original)
        def collect(*args: Any, **options: Any) -> Any:
            for device in {leaf.device for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)}:
                if device == CPU and "nccl" in self.backends and "gloo" not in self.backends:
                    raise RuntimeError("No backend type associated with device type cpu")
                if device != CPU and device.index != int(os.environ["LOCAL_RANK"]):
                    raise RuntimeError(f"Duplicate GPU detected: {device} in process {os.environ['LOCAL_RANK']}")
            return original(*args, **options)

        return collect


class _Operations(TorchDispatchMode):
    """Checks each operation, and notes where its results lie."""

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__()
        self.cuda = cuda

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = self.cuda.check(function, args, kwargs)
        results = function(*args, **kwargs)
        if device != CPU:
            given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
            for result in tree_leaves(results):
                if isinstance(result, Tensor) and result.untyped_storage()._cdata not in given:
                    self.cuda.place(result, device)
        return results


def check_generator(generator: torch.Generator | None, device: torch.device) -> None:
    if generator is not None and generator.device.type != device.type:
        raise RuntimeError(f"Expected a '{device.type}' device type for generator but found '{generator.device.type}'")


@contextlib.contextmanager
def fake_cuda(**machine: Any) -> Iterator[FakeCuda]:
    """Let torch have GPUs; `machine`: as for `FakeCuda`."""
    cuda = FakeCuda(**machine)
    with pytest.MonkeyPatch.context() as patch:
        _patch_tensors(cuda, patch)
        _patch_files(cuda, patch)
        _patch_torch_cuda(cuda, patch)
        _patch_processes(cuda, patch)

        run = threading.Thread.run

        def run_checked(thread: threading.Thread) -> None:
            with _Operations(cuda):
                run(thread)

        patch.setattr(threading.Thread, "run", run_checked)
        with _Operations(cuda):
            yield cuda


def _patch_tensors(cuda: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    """Let tensors, generators and functions that make them know the devices."""
    to, numpy, backward = cuda.move(Tensor.to), Tensor.numpy, torch.autograd._engine_run_backward

    def as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return as_it_is(data, dtype=dtype).to(device)

    as_it_is = torch.as_tensor

    def to_numpy(tensor: Tensor, *, force: bool = False) -> Any:
        if tensor.device != CPU and not force:
            raise TypeError(
                f"can't convert {tensor.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
                "host memory first."
            )
        return numpy(to(tensor, CPU), force=force)

    def checked(original: Callable) -> Callable:
        @functools.wraps(original)
        def draw(tensor: Tensor, *args: Any, generator: torch.Generator | None = None, **options: Any) -> Tensor:
            check_generator(generator, tensor.device)
            return original(tensor, *args, generator=generator, **options)

        return draw

    def run_backward(outputs: Any, *args: Any, **options: Any) -> Any:
        """What C++ makes from nothing in the backward pass lies where the loss lies."""
        before, cuda.thread.backward = cuda.thread.backward, outputs[0].device
        try:
            return backward(outputs, *args, **options)
        finally:
            cuda.thread.backward = before

    def group(lists: Any, with_indices: bool = False) -> Any:
        """Optimizers handle the weights of each device together, and ask C++ which these are."""
        groups = grouped(lists, with_indices).items()
        return {(parts[0][0][0].device, dtype): (parts, indices) for (_, dtype), (parts, indices) in groups}

    grouped = torch._C._group_tensors_by_device_and_dtype

    class Generator(torch.Generator):
        def __new__(cls, device: Any = CPU) -> "Generator":
            return super().__new__(cls)

        def __init__(self, device: Any = CPU) -> None:
            self.place = cuda.device(device)

        device = property(lambda generator: generator.place)

    def record_stream(tensor: Tensor, stream: Any) -> None:
        if tensor.device == CPU:
            raise NotImplementedError("Could not run 'aten::record_stream' with arguments from the 'CPU' backend.")

    methods = {
        "device": property(device_of),
        "is_cuda": property(lambda tensor: tensor.device.type == "cuda"),
        "is_cpu": property(lambda tensor: tensor.device == CPU),
        "get_device": lambda tensor: -1 if tensor.device == CPU else tensor.device.index,
        "to": to,
        "cpu": lambda tensor, memory_format=torch.preserve_format: to(tensor, CPU, memory_format=memory_format),
        "cuda": lambda tensor, device=None, non_blocking=False, memory_format=torch.preserve_format: to(
            tensor, "cuda" if device is None else device, non_blocking=non_blocking, memory_format=memory_format
        ),
        "numpy": to_numpy,
        "pin_memory": lambda tensor: cuda.place(tensor.clone(), tensor.device, pinned=True),
        "is_pinned": lambda tensor: getattr(tensor.untyped_storage(), "fake_pinned", False),
        "record_stream": record_stream,
    }
    methods |= {name: cuda.make(getattr(Tensor, name)) for name in NEW.split()}
    methods |= {name: checked(getattr(Tensor, name)) for name in RANDOM.split()}
    for name, method in methods.items():
        patch.setattr(Tensor, name, method)
    for name in [*FACTORIES.split(), *LIKE.split()]:
        patch.setattr(torch, name, cuda.make(getattr(torch, name)))
    for name in ("bernoulli", "multinomial", "poisson"):
        patch.setattr(torch, name, checked(getattr(torch, name)))
    patch.setattr(torch, "as_tensor", as_tensor)
    patch.setattr(torch, "Generator", Generator)
    patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", group)
    patch.setattr(torch.autograd, "_engine_run_backward", run_backward)


def _patch_files(cuda: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    """Let copies of storages, on disk too, know their device."""
    load, tag, clone = torch.load, torch.serialization.location_tag, torch.UntypedStorage.clone

    def load_to(path: Any, map_location: Any = None, **options: Any) -> Any:
        def place(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
            target = map_location.get(location, location) if isinstance(map_location, dict) else map_location
            storage.fake_device = cuda.device(target or location)
            return storage

        return load(path, map_location=place, **options)

    def location_tag(storage: torch.UntypedStorage) -> str:
        return str(getattr(storage, "fake_device", tag(storage)))

    def clone_in_place(storage: torch.UntypedStorage) -> torch.UntypedStorage:
        result = clone(storage)
        result.fake_device = getattr(storage, "fake_device", CPU)
        return result

    patch.setattr(torch, "load", load_to)
    patch.setattr(torch.serialization, "location_tag", location_tag)
    patch.setattr(torch.UntypedStorage, "clone", clone_in_place)


def _patch_torch_cuda(cuda: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    """Let torch.cuda answer for the GPUs, and streams, events and autocast be there."""

    def of_gpu(answer: Any) -> Callable:
        """Return a function that answers the same for every GPU there is, by default the current one."""

        def function(device: Any = None) -> Any:
            cuda.device("cuda" if device is None else device)
            return answer

        return function

    def set_device(device: Any) -> None:
        if not isinstance(device, int) and torch.device(device).index is None:
            raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")
        cuda.thread.gpu = cuda.device(device).index

    class Event:
        def __init__(self, **options: bool) -> None: ...

        def record(self, stream: Any = None) -> None:
            self.time = time.perf_counter()

        def elapsed_time(self, end: "Event") -> float:
            return 1000 * (end.time - self.time)

        def query(self) -> bool:
            return True

        def wait(self, stream: Any = None) -> None: ...
        def synchronize(self) -> None: ...

    class Stream:
        def __init__(self, device: Any = None, priority: int = 0) -> None:
            self.device = cuda.device("cuda" if device is None else device)

        def record_event(self, event: Event | None = None) -> Event:
            event = event or Event()
            event.record(self)
            return event

        def query(self) -> bool:
            return True

        def wait_event(self, event: Event) -> None: ...
        def wait_stream(self, stream: "Stream") -> None: ...
        def synchronize(self) -> None: ...

    def current_stream(device: Any = None) -> Stream:
        stream, device = cuda.thread.stream, cuda.device("cuda" if device is None else device)
        return stream if stream is not None and stream.device == device else Stream(device)

    @contextlib.contextmanager
    def stream_context(stream: Stream | None) -> Iterator[None]:
        before = cuda.thread.stream, cuda.thread.gpu
        if stream is not None:
            cuda.thread.stream, cuda.thread.gpu = stream, stream.device.index
        try:
            yield
        finally:
            cuda.thread.stream, cuda.thread.gpu = before

    functions = {
        "is_available": lambda: cuda.count > 0,
        "device_count": lambda: cuda.count,
        "current_device": lambda: cuda.thread.gpu,
        "set_device": set_device,
        "is_bf16_supported": lambda including_emulation=True: cuda.bfloat16 or including_emulation,
        "get_device_name": of_gpu("a GPU that is none"),
        "mem_get_info": of_gpu((cuda.free, 2 * cuda.free)),
        "synchronize": of_gpu(None),
        "empty_cache": lambda: None,
        "Stream": Stream,
        "Event": Event,
        "current_stream": current_stream,
        "stream": stream_context,
    }
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
        functions[name] = of_gpu(2**20)
    for name in ("reset_peak_memory_stats", "reset_accumulated_memory_stats"):
        functions[name] = of_gpu(None)
    for name, function in functions.items():
        patch.setattr(torch.cuda, name, function)

    autocast = torch.autocast.__init__

    def initialise_autocast(context: Any, device_type: str, dtype: Any = None, *args: Any, **options: Any) -> None:
        if device_type == "cuda":
            device_type, dtype = "cpu", dtype or torch.float16
        autocast(context, device_type, dtype, *args, **options)

    patch.setattr(torch.autocast, "__init__", initialise_autocast)


def _patch_processes(cuda: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    """Let processes that ask for NCCL work together through gloo."""
    start, build = distributed.init_process_group, torch.nn.parallel.DistributedDataParallel.__init__
    barrier = distributed.barrier

    def init_process_group(backend: str = "cuda:nccl,cpu:gloo", device_id: Any = None, **options: Any) -> None:
        cuda.backends = backend
        start("gloo", **options)

    def sum_up(_: None, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
        """C++ makes the buckets, and thinks that the parameters are on the CPU."""
        cuda.place(bucket.buffer(), bucket.parameters()[0].device)
        return allreduce_hook(None, bucket)

    def build_wrapper(wrapper: Any, *args: Any, **options: Any) -> None:
        build(wrapper, *args, **options)
        wrapper.register_comm_hook(None, sum_up)

    patch.setattr(distributed, "init_process_group", init_process_group)
    patch.setattr(distributed, "barrier", lambda *args, device_ids=None, **options: barrier(*args, **options))
    patch.setattr(torch.nn.parallel.DistributedDataParallel, "__init__", build_wrapper)
    functions = distributed.distributed_c10d
    place_of_objects = lambda _=None: "cpu" if "gloo" in cuda.backends else "cuda"  # noqa: E731
    patch.setattr(functions, "_get_object_coll_device", place_of_objects)
    for name in COLLECTIVES.split():
        checked = cuda.collective(getattr(distributed, name))
        for module in (distributed, functions):  # which itself sends objects as tensors
            patch.setattr(module, name, checked)
