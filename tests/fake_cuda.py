"""GPUs that are none: what torch makes on `cuda` is computed on the CPU, and must not meet what lies elsewhere.

As in torch, a device belongs to a storage: it is noted there, and all that shares the storage has it, such as views,
parameters and what a file holds. Each operation, also of the backward pass, is refused where torch refuses it: tensors
of two devices, a generator of another kind of device, `numpy()` of a tensor on a GPU. `cuda` without a number is the
current GPU of the thread, and a new thread begins with the first.

All is done at once, but what one stream writes and another uses without having waited for it is refused, and so is
writing to a pinned tensor, or giving back memory of a side stream, while another stream may still read it.

What this cannot see: CUDA's kernels (operations that it lacks, their rounding, another order of sums), which operations
autocast takes for CUDA (the CPU's list serves), how much memory there is, and races that do not go through torch, such
as those through numpy's view of a pinned tensor. It lets pass what is rare: gradients across devices, CPU tensors
without dimensions also where torch wants them on the GPU, and memory of a default stream that another one still reads.
What it does not know, such as other functions of `torch.cuda`, fails as it does in a torch without CUDA.
"""

import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
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
BLOCKING = {"_local_scalar_dense", "equal", "nonzero"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


def device_of(storage: torch.UntypedStorage) -> torch.device:
    return getattr(storage, "fake_device", CPU)


class Stream:
    """A stream of `device`; `done` says how far it has come, and how far each one for which it has waited had come."""

    def __init__(self, cuda: "FakeCuda", device: torch.device) -> None:
        self.cuda, self.device = cuda, device
        self.done: Clock = {}

    def record_event(self, event: "Event | None" = None) -> "Event":
        event = event or Event(self.cuda)
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        join(self.done, event.done)

    def wait_stream(self, stream: "Stream") -> None:
        join(self.done, stream.done)

    def synchronize(self) -> None:
        join(self.cuda.host, self.done)

    def query(self) -> bool:
        self.synchronize()
        return True


class Event:
    """What a stream had done when it was recorded."""

    def __init__(self, cuda: "FakeCuda") -> None:
        self.cuda = cuda
        self.done: Clock = {}

    def record(self, stream: Stream | None = None) -> None:
        self.done, self.time = dict((stream or self.cuda.stream()).done), time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        (stream or self.cuda.stream()).wait_event(self)

    def synchronize(self) -> None:
        join(self.cuda.host, self.done)

    def query(self) -> bool:
        self.synchronize()
        return True

    def elapsed_time(self, end: "Event") -> float:
        return 1000 * (end.time - self.time)


Clock = dict[Stream, int]


class Use:
    """Where and when a storage was last written, and last read on each stream; on which its memory was `made`."""

    def __init__(self, made: Stream | None) -> None:
        self.made, self.recorded = made, set()
        self.written: Clock = {}
        self.read: Clock = {}


def join(clock: Clock, other: Clock) -> None:
    for stream, number in other.items():
        clock[stream] = max(number, clock.get(stream, 0))


def behind(clock: Clock, other: Clock) -> bool:
    return any(clock.get(stream, 0) < number for stream, number in other.items())


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
        self.default = [Stream(self, torch.device("cuda", number)) for number in range(count)]
        self.host: Clock = {}  # what all threads know to be done
        self.races: list[str] = []

    def device(self, name: torch.device | str | int) -> torch.device:
        """Return the device that is meant, with its number; a number alone is a GPU's."""
        device = torch.device("cuda", name) if isinstance(name, int) else torch.device(name)
        if device.type != "cuda":
            return torch.device(device.type)
        number = self.thread.gpu if device.index is None else device.index
        if number >= self.count:
            raise RuntimeError("CUDA error: invalid device ordinal")
        return torch.device("cuda", number)

    def place(self, storage: torch.UntypedStorage, device: torch.device, pinned: bool = False) -> None:
        """Say that a storage lies on `device`."""
        if device != CPU:
            self.used.add(device)
        if pinned and device != CPU:
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        storage.fake_device, storage.fake_pinned = device, pinned

    def stream(self, device: torch.device | None = None) -> Stream:
        """Return the thread's current stream on a GPU, by default the current one."""
        stream, device = self.thread.stream, self.device("cuda" if device is None else device)
        return stream if stream is not None and stream.device == device else self.default[device.index]

    def run(self, device: torch.device, read: Iterable[Any], written: Iterable[Any]) -> None:
        """Note what an operation does with storages, on the current stream of a GPU or in this process."""
        __tracebackhide__ = True  # else pytest prints every byte of them
        stream = None if device == CPU else self.stream(device)
        clock = self.host if stream is None else stream.done
        join(clock, self.host)
        for storage in (*read, *written):
            if hasattr(storage, "fake_use") and behind(clock, storage.fake_use.written):
                raise RuntimeError("race: a tensor is used that another stream may not have written yet; wait for it")
        for storage in written:
            if hasattr(storage, "fake_use") and behind(clock, storage.fake_use.read):
                raise RuntimeError("race: a tensor is written to that another stream may still read; wait for it")
        if stream is None:
            return
        clock[stream] = clock.get(stream, 0) + 1
        for storage in read:
            if device_of(storage) != CPU or getattr(storage, "fake_pinned", False):
                self.use(storage, stream).read[stream] = clock[stream]
        for storage in written:
            self.use(storage, stream).written = {stream: clock[stream]}

    def use(self, storage: torch.UntypedStorage, stream: Stream) -> Use:
        if not hasattr(storage, "fake_use"):
            storage.fake_use = Use(None if device_of(storage) == CPU else stream)
            weakref.finalize(storage, self.give_back, storage.fake_use).atexit = False
        return storage.fake_use

    def give_back(self, use: Use) -> None:
        """Memory of a side stream goes back to it, which may fill it anew at once, unless others are recorded."""
        if use.made not in (None, *self.default):
            known = dict(use.made.done)
            join(known, self.host)
            if behind(known, {stream: number for stream, number in use.read.items() if stream not in use.recorded}):
                self.races.append("race: memory is freed that another stream may still read; record_stream tells of it")

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
            result = original(tensor, CPU, *args[:2], **{**options, "copy": True})
            self.place(result.untyped_storage(), device)
            if device != CPU:
                if tensor.device != CPU:
                    join(self.stream(device).done, self.stream(tensor.device).done)
                self.run(device, [tensor.untyped_storage()], [result.untyped_storage()])
            if not (options.get("non_blocking") or list(args[1:]) == [True]):
                self.stream(tensor.device if device == CPU else device).synchronize()
            return result

        return to

    def make(self, original: Callable) -> Callable:
        """Return a function that makes tensors on the given device or, without one, where its first argument lies."""

        @functools.wraps(original)
        def factory(*args: Any, device: Any = None, pin_memory: bool = False, **options: Any) -> Tensor:
            beside = args[0].device if args and isinstance(args[0], Tensor) else CPU
            device = beside if device is None else self.device(device)
            check_generator(options.get("generator"), device)
            result = original(*args, **options)
            storage = result.untyped_storage()
            vars(storage).pop("fake_use", None)  # that where the first argument lies
            self.place(storage, device, pin_memory)
            self.run(device, [], [storage])
            return result

        return factory

    def check(self, function: Any, args: tuple, kwargs: dict[str, Any]) -> torch.device:
        """Return where an operation runs, or raise RuntimeError where torch refuses what it is given."""
        __tracebackhide__ = True
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
        __tracebackhide__ = True
        kwargs = kwargs or {}
        device = self.cuda.check(function, args, kwargs)
        results = function(*args, **kwargs)
        given, made = storages((args, kwargs)), storages(results)
        fresh = [storage for key, storage in made.items() if key not in given]
        for storage in fresh:
            self.cuda.place(storage, device)
        arguments = zip(function._schema.arguments, args, strict=False)
        changed = [value for argument, value in arguments if argument.alias_info and argument.alias_info.is_write]
        changed = storages((changed, kwargs.get("out"))).values()
        # What copies to the CPU runs on the GPU that it comes from.
        runs = next((where for where in map(device_of, given.values()) if where != CPU), device)
        self.cuda.run(runs, given.values(), [*changed, *fresh])
        name, does_not_block = function.overloadpacket.__name__, kwargs.get("non_blocking", False)
        blocks = args[2:] != (True,) and not does_not_block if name == "copy_" else name in BLOCKING
        if runs != CPU and blocks:
            self.cuda.stream(runs).synchronize()
        return results


def storages(values: Any) -> dict[int, torch.UntypedStorage]:
    found = [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return {storage._cdata: storage for storage in found}


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
    if cuda.races:
        raise RuntimeError(cuda.races[0])


def _patch_tensors(cuda: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    """Let tensors, generators and functions that make them know the devices."""
    to, numpy, tolist, backward = cuda.move(Tensor.to), Tensor.numpy, Tensor.tolist, torch.autograd._engine_run_backward

    def as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return as_it_is(data, dtype=dtype).to(device)

    as_it_is = torch.as_tensor

    def at_hand(tensor: Tensor) -> Tensor:
        """Return a tensor on the CPU whose values are there."""
        result = to(tensor, CPU)
        cuda.run(CPU, [result.untyped_storage()], [])
        return result

    def to_numpy(tensor: Tensor, *, force: bool = False) -> Any:
        if tensor.device != CPU and not force:
            raise TypeError(
                f"can't convert {tensor.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
                "host memory first."
            )
        return numpy(at_hand(tensor), force=force)

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

    def pin_memory(tensor: Tensor) -> Tensor:
        result = tensor.clone()
        cuda.place(result.untyped_storage(), tensor.device, pinned=True)
        return result

    def record_stream(tensor: Tensor, stream: Stream) -> None:
        if tensor.device == CPU:
            raise NotImplementedError("Could not run 'aten::record_stream' with arguments from the 'CPU' backend.")
        cuda.use(tensor.untyped_storage(), stream).recorded.add(stream)

    methods = {
        "device": property(lambda tensor: device_of(tensor.untyped_storage())),
        "is_cuda": property(lambda tensor: tensor.device.type == "cuda"),
        "is_cpu": property(lambda tensor: tensor.device == CPU),
        "get_device": lambda tensor: -1 if tensor.device == CPU else tensor.device.index,
        "to": to,
        "cpu": lambda tensor, memory_format=torch.preserve_format: to(tensor, CPU, memory_format=memory_format),
        "cuda": lambda tensor, device=None, non_blocking=False, memory_format=torch.preserve_format: to(
            tensor, "cuda" if device is None else device, non_blocking=non_blocking, memory_format=memory_format
        ),
        "numpy": to_numpy,
        "tolist": lambda tensor: tolist(at_hand(tensor)),
        "pin_memory": pin_memory,
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

    class CudaEvent(Event):
        def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
            super().__init__(cuda)

    class CudaStream(Stream):
        def __init__(self, device: Any = None, priority: int = 0) -> None:
            super().__init__(cuda, cuda.device("cuda" if device is None else device))

    def synchronize(device: Any = None) -> None:
        cuda.device("cuda" if device is None else device)
        for stream in {*cuda.default, *cuda.host, *(stream for other in cuda.default for stream in other.done)}:
            stream.synchronize()

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
        "synchronize": synchronize,
        "empty_cache": lambda: None,
        "Stream": CudaStream,
        "Event": CudaEvent,
        "current_stream": cuda.stream,
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
        cuda.place(bucket.buffer().untyped_storage(), bucket.parameters()[0].device)
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
