"""A training step as the library's, with switches for what could be done otherwise, and how fast it is."""

import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gpu_work
import torch
from gpu_work import Batch, LeftOut, Setting, compute_in, made_volume, synchronize
from slicesampling.learning.compute import Compute
from slicesampling.learning.geometry import Axes
from slicesampling.learning.training import weighted_soft_dice_loss as loss_of
from slicesampling.learning.unet import AnisotropicUNet, Encoded, keep_mask
from torch import Tensor
from torch.nn import functional

BLOCKS = 5
"""Stretches of steps whose rates are compared, so that a figure comes with its spread."""
WARM_UP = 5
"""Steps that are not timed: the allocator and cuDNN's choice of algorithms settle in them."""


class Switches(NamedTuple):
    """What is done otherwise than in the library's training step."""

    benchmark: bool = False
    adam: str = ""
    graph: bool = False
    compiled: str = ""
    padded: bool = False
    contiguous: bool = False
    strided_pool: bool = False
    deferred: bool = False


AS_IT_IS = Switches()


class Variant(AnisotropicUNet):
    """The library's network with another layout in memory or another way to pool; weights and results are the same."""

    layout = torch.channels_last_3d
    strided_pool = False

    def encode(self, image: Tensor) -> Encoded:
        features = image.contiguous(memory_format=self.layout)
        skips = []
        for level, blocks in enumerate(self.encoder[:-1]):
            for block in blocks.children():
                features = block(features)
            (z, y, x), (dz, dy, dx) = features.shape[2:], self.geometry.crops[level]
            skips.append(features[:, :, dz : z - dz, dy : y - dy, dx : x - dx].contiguous(memory_format=self.layout))
            if self.strided_pool:
                for axis, factor in enumerate(self.geometry.pooling[level], start=2):
                    if factor == 2:
                        even, odd = (features[(slice(None),) * axis + (slice(side, None, 2),)] for side in (0, 1))
                        features = torch.maximum(even, odd)
            else:
                features = functional.max_pool3d(features, self.geometry.pooling[level])
        for block in self.encoder[-1].children():
            features = block(features)
        return Encoded(skips, self.upsampling[-1](features) if skips else features)

    def forward(self, image: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if self.layout is not torch.contiguous_format or generator is None:
            return super().forward(image, generator)

        def keep(_: int, shape: torch.Size) -> Tensor:
            batch, channels, z, y, x = shape  # drawn in the order in which it is used: no copy for this layout either
            return keep_mask((batch, x, channels, z, y), self.dropout, generator).permute(0, 2, 3, 4, 1)

        return self.decode(self.encode(image), keep)


class Step:
    """A training step as the library's, with switches; `losses` holds what it gave."""

    def __init__(
        self,
        setting: Setting,
        compute: Compute,
        switches: Switches = AS_IT_IS,
        patch: Axes | None = None,
        rate: float = 1e-5,
    ) -> None:
        if compute.device.type != "cuda" and switches.graph:
            raise LeftOut("GPU only")
        self.compute, self.switches, self.patch = compute, switches, patch or setting.scale.patch
        torch.backends.cudnn.benchmark = switches.benchmark
        filters = [-(-n // 8) * 8 for n in setting.scale.filters] if switches.padded else setting.scale.filters
        other = switches.contiguous or switches.strided_pool
        self.network: AnisotropicUNet = Variant(filters) if other else AnisotropicUNet(filters)
        if isinstance(self.network, Variant):
            self.network.layout = torch.contiguous_format if switches.contiguous else torch.channels_last_3d
            self.network.strided_pool = switches.strided_pool
        self.network.initialise(torch.Generator().manual_seed(1))
        self.network.to(compute.device).train()
        if switches.contiguous:
            self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        options: dict[str, bool] = {switches.adam: True} if switches.adam else {}
        if switches.graph:
            options["capturable"] = True
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=rate, **options)
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.dtype == torch.float16)
        self.dropout = torch.Generator(device=compute.device)
        self.steps = 0
        self.losses: list[float] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._waiting: tuple[Tensor, torch.cuda.Event | None] | None = None
        self._compiled: Callable[..., Tensor] | None = None

    def __call__(self, batch: Batch) -> None:
        self.steps += 1
        loss = self._replayed(batch) if self.switches.graph else self._made(batch)
        if not self.switches.deferred:
            self.losses.append(loss.item())
            return
        # Copied to the CPU as soon as it is there: item() would also wait for the step that has been begun since.
        host = torch.empty((), pin_memory=loss.is_cuda)
        host.copy_(loss.detach(), non_blocking=True)
        event = torch.cuda.Event() if loss.is_cuda else None
        if event is not None:
            event.record()
        self.read()
        self._waiting = (host, event)

    def read(self) -> None:
        """Read the loss that waits, if any."""
        if self._waiting is not None:
            host, event = self._waiting
            if event is not None:
                event.synchronize()
            self.losses.append(host.item())
            self._waiting = None

    def _made(self, batch: Batch) -> Tensor:
        self.dropout.manual_seed(self.steps)
        return self._body(batch)

    def _body(self, batch: Batch) -> Tensor:
        with torch.autocast(self.compute.device.type, self.compute.dtype, enabled=self.compute.dtype != torch.float32):
            loss = self._loss_compiled(*batch) if self.switches.compiled else self._loss(*batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def _loss(self, image: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        logits = self.network(image, self.dropout)
        return loss_of(logits.float().softmax(dim=1)[:, 1], label, weight)

    def _loss_compiled(self, image: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        """Draw the dropout outside of what is compiled, which takes no generator."""
        if self._compiled is None:
            self._compiled = self._compile(image)
        if self.switches.compiled == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        masks = [keep_mask(shape, self.network.dropout, self.dropout) for shape in reversed(self._shapes)]
        return self._compiled(image, label, weight, masks[::-1])

    def _compile(self, image: Tensor) -> Callable[..., Tensor]:
        network = self.network
        shapes: dict[int, torch.Size] = {}

        def note(level: int, shape: torch.Size) -> Tensor:
            shapes[level] = shape
            return torch.ones(shape, dtype=torch.bool, device=image.device)

        with torch.no_grad():
            network.eval().decode(network.encode(image), note)
        network.train()
        self._shapes = [shapes[level] for level in sorted(shapes)]

        def loss(image: Tensor, label: Tensor, weight: Tensor, masks: list[Tensor]) -> Tensor:
            logits = network.decode(network.encode(image), lambda level, shape: masks[level])
            return loss_of(logits.float().softmax(dim=1)[:, 1], label, weight)

        how = {"backend": "aot_eager"} if self.switches.compiled == "aot_eager" else {"mode": self.switches.compiled}
        return torch.compile(loss, **how)  # type: ignore[call-overload]

    def _replayed(self, batch: Batch) -> Tensor:
        if self._graph is None:
            self._capture(batch)
        assert self._graph is not None
        for fixed, given in zip(self._fixed, batch, strict=True):
            fixed.copy_(given)
        self.dropout.manual_seed(self.steps)
        self._graph.replay()
        return self._loss_of_graph

    def _capture(self, batch: Batch) -> None:
        """Record a step, after a few that let everything settle, and put the state back to where it was."""
        if self.scaler.is_enabled():
            raise LeftOut("a step with float16 asks the CPU whether its gradients are finite")
        self._fixed = [tensor.clone() for tensor in batch]
        before = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._body((self._fixed[0], self._fixed[1], self._fixed[2]))
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self.dropout)
        with torch.cuda.graph(self._graph):
            self._loss_of_graph = self._body((self._fixed[0], self._fixed[1], self._fixed[2]))
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                tensor.copy_(before[name])
            for state in self.optimizer.state.values():
                for tensor in state.values():
                    tensor.zero_()


def speed(step: Callable[[], object], device: torch.device, seconds: float) -> dict[str, Any]:
    """Repeat a step until the time is up; return the median of its rate, and how far the stretches differ."""
    started = time.perf_counter()
    step()
    synchronize(device)
    first = time.perf_counter() - started
    for _ in range(WARM_UP - 1):
        step()
    synchronize(device)
    rates = []
    for _ in range(BLOCKS):
        count, started = 0, time.perf_counter()
        while not count or time.perf_counter() - started < seconds / BLOCKS:
            step()
            count += 1
        synchronize(device)
        rates.append(count / (time.perf_counter() - started))
    rate = statistics.median(rates)
    return {"steps/s": rate, "spread (%)": 100 * (max(rates) - min(rates)) / rate, "first step (s)": first}


def taught(setting: Setting) -> AnisotropicUNet:
    """Return a network that has learned a little, so that it is sure in some places and unsure in others."""
    compute = compute_in("float32", setting)
    step = Step(setting, compute, patch=setting.scale.crop, rate=1e-3)
    data = gpu_work.training_set([made_volume(setting.scale.checked)], setting.scale.crop)
    with contextlib.closing(gpu_work.batches(data, step.network, compute)) as stream:
        for _, batch in zip(range(setting.scale.lessons), stream, strict=False):
            step(batch)
    return step.network.eval()
