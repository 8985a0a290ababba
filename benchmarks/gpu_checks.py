"""Whether a GPU computes what the CPU does: values by precision, large tiles, resumed trainings, too little memory."""

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple
from unittest import mock

import common
import gpu_step
import gpu_work
import numpy as np
import torch
from gpu_work import Rows, Setting, compute_in, made_volume
from slicesampling import UserError
from slicesampling.learning import inference
from slicesampling.learning.compute import Compute
from slicesampling.learning.tiling import TilePlan, plan_tiles, tile_starts
from slicesampling.learning.training import weighted_soft_dice_loss
from slicesampling.learning.uncertainty import slice_uncertainty
from slicesampling.learning.unet import AnisotropicUNet, keep_mask
from torch import Tensor

INDICES = 2**31
"""Elements of a feature map that a kernel with 32-bit indices cannot tell apart."""
CHECKED_SAMPLES = 5
SCALE_OF_LOSS = 2.0**10
"""What the loss is multiplied by before its gradients are taken in float16, as any training in it does."""


class Limits(NamedTuple):
    """What may lie between two precisions at most: difference of the loss, of the gradient (of its length), mean
    difference of the probability and of the entropy, and the rank correlation of the slices' entropies, at least."""

    loss: float
    gradient: float
    probability: float
    entropy: float
    order: float


LIMITS = {
    "float32": Limits(1e-5, 2e-3, 1e-5, 1e-5, 0.999),
    "tf32": Limits(5e-4, 0.1, 1e-3, 2e-3, 0.99),
    "bfloat16": Limits(5e-3, 0.4, 1e-2, 2e-2, 0.95),
    "float16": Limits(5e-4, 0.1, 1e-3, 2e-3, 0.99),
}
"""Ten times or so what the default network gives on a CPU in bfloat16 (3e-4, 0.05, 7e-4, 1e-3), and with the factors of
its products rounded as in tf32 (1e-5, 0.02, 5e-5, 8e-5). Those of float32 are below the latter, so that tf32 does not
pass for it."""


class Measured(NamedTuple):
    loss: float
    gradient: Tensor
    probability: Tensor
    entropy: Tensor
    profile: np.ndarray


def on_the_cpu(shape: Any, probability: float, generator: torch.Generator) -> Tensor:
    """Draw dropout as the library does, but on the CPU, so that it is the same for every device."""
    same = torch.Generator().manual_seed(generator.initial_seed())
    return keep_mask(shape, probability, same).to(generator.device)


def measured(network: AnisotropicUNet, setting: Setting, compute: Compute) -> Measured:
    """Return loss and gradient of one mini-batch, and what is predicted for one volume."""
    scale = setting.scale
    network = network.to(compute.device).train()
    on_cpu = compute._replace(device=torch.device("cpu"))
    image, label, weight = (t.to(compute.device) for t in gpu_work.constant_batch(network, scale.crop, on_cpu))
    generator = torch.Generator().manual_seed(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.zero_grad()
    with torch.autocast(compute.device.type, compute.dtype, enabled=compute.dtype != torch.float32):
        logits = network.decode(
            network.encode(image),
            lambda _, shape: keep_mask(shape, network.dropout, generator).to(compute.device),
        )
    loss = weighted_soft_dice_loss(logits.float().softmax(dim=1)[:, 1], label, weight)
    (SCALE_OF_LOSS * loss).backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).cpu() / SCALE_OF_LOSS
    network.load_state_dict(before)  # as it was before its batch norms saw the mini-batch
    network.eval()
    volume = made_volume(scale.checked).image
    probability = gpu_work.probability_of(network, volume, compute)
    with mock.patch.object(inference, "keep_mask", on_the_cpu):
        entropy = gpu_work.entropy_of(network, volume, compute, CHECKED_SAMPLES)
    return Measured(loss.item(), gradient, probability.cpu(), entropy.cpu(), slice_uncertainty(entropy))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def agreement(setting: Setting) -> Rows:
    @cache
    def reference() -> tuple[dict[str, Tensor], Measured]:
        network = gpu_step.taught(setting)
        state = {name: tensor.cpu().clone() for name, tensor in network.state_dict().items()}
        return state, measured(network, setting, compute_in("float32", setting, "cpu"))

    def compared(precision: str, earlier: dict[str, Any]) -> dict[str, Any]:
        state, cpu = reference()
        network = gpu_work.new_network(setting, setting.device)
        network.load_state_dict(state)
        there = measured(network, setting, compute_in(precision, setting))
        limits = LIMITS[precision]
        found = Limits(
            abs(there.loss - cpu.loss),
            float((there.gradient - cpu.gradient).norm() / cpu.gradient.norm()),
            float((there.probability - cpu.probability).abs().mean()),
            float((there.entropy - cpu.entropy).abs().mean()),
            rank_correlation(there.profile, cpu.profile),
        )
        good = all(value <= limit for value, limit in zip(found[:-1], limits[:-1], strict=True))
        return {
            "loss": found.loss,
            "gradient": found.gradient,
            "probability": found.probability,
            "probability, at most": float((there.probability - cpu.probability).abs().max()),
            "entropy": found.entropy,
            "order of slices": found.order,
            "same order": bool((np.argsort(there.profile) == np.argsort(cpu.profile)).all()),
            "accepted": ", ".join(f"{limit:g}" for limit in limits),
            "ok": good and found.order >= limits.order,
        }

    def dropout(earlier: dict[str, Any]) -> dict[str, Any]:
        """Whether masks drawn on the device keep what they should, and follow their seed."""
        generator = torch.Generator(device=setting.device)
        shape, rate = (1, 16, 16, 256, 256), 0.25
        first, again, other = (keep_mask(shape, rate, generator.manual_seed(seed)) for seed in (1, 1, 2))
        kept, both = (float(mask.float().mean()) for mask in (first, first & other))
        error = (rate * (1 - rate) / first.numel()) ** 0.5
        good = torch.equal(first, again) and abs(kept - 0.75) < 5 * error and abs(both - 0.5625) < 5 * error
        text = f"Masks drawn on the device keep {kept:.5f} of 0.75, and two of them {both:.5f} of 0.5625; the standard "
        text += f"error is {error:.1g}. The same seed gives the same mask: {torch.equal(first, again)}."
        return {"accepted": "5 standard errors", "ok": good, "text": text}

    rows: Rows = {precision: partial(compared, precision) for precision in gpu_work.PRECISIONS}
    return rows | {"dropout mask": dropout}


@contextlib.contextmanager
def largest_map() -> Iterator[list[int]]:
    """Yield a list whose only number is the elements of the largest tensor that goes into a layer or comes out."""
    largest = [0]

    def look(module: torch.nn.Module, given: tuple, output: Any) -> None:
        largest[0] = max(largest[0], *(t.numel() for t in (*given, output) if isinstance(t, Tensor)), 0)

    hook = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        yield largest
    finally:
        hook.remove()


class Planned(NamedTuple):
    """Tiles that inference planned, and the bytes that it had for them."""

    plan: TilePlan
    memory: float


@contextlib.contextmanager
def plans() -> Iterator[list[Planned]]:
    """Collect the tiles that inference plans."""
    planned: list[Planned] = []

    def noting(shape: Any, architecture: Any, memory: float, *others: Any) -> TilePlan:
        planned.append(Planned(plan_tiles(shape, architecture, memory, *others), memory))
        return planned[-1].plan

    with mock.patch.object(inference, "plan_tiles", noting):
        yield planned


def tiles(setting: Setting) -> Rows:
    scale = setting.scale

    def compared(precision: str, samples: int, earlier: dict[str, Any]) -> dict[str, Any]:
        network = gpu_step.taught(setting)
        image = made_volume(scale.large).image
        gpu_work.refresh(setting)
        compute = compute_in(precision, setting)

        def work(given: Compute) -> Tensor:
            if samples:
                return gpu_work.entropy_of(network, image, given, samples)
            return gpu_work.probability_of(network, image, given)

        with plans() as planned, largest_map() as largest, gpu_work.retries() as said:
            try:
                large = work(compute)
            except Exception as error:
                tile = planned[-1].plan.shape if planned else "none"
                raise RuntimeError(f"tile {tile}, a map of {largest[0]:.3g} elements: {error}") from error
        (plan, memory), peak = planned[-1], common.peak_gib(torch.device(setting.device))
        with plans() as planned:
            small = work(compute._replace(tile_memory=scale.small_gib * 2**30))
        limits, difference = LIMITS[precision], (large - small).abs()
        limit = limits.entropy if samples else limits.probability
        mean, most = float(difference.mean(dtype=torch.float64)), float(difference.max())
        return {
            "tile": plan.shape,
            "at once": plan.samples_at_once,
            "for (GiB)": memory / 2**30,
            "memory (GiB)": peak,
            "retries": len(said),
            "largest map (elements)": largest[0],
            "tiles": f"{len(tile_starts(plan))} and {len(tile_starts(planned[-1].plan))}",
            "difference": mean,
            "at most": most,
            "accepted": f"{limit:g}, below 2^31 elements",
            "ok": mean <= limit and largest[0] < INDICES,
        }

    fast = setting.fast
    return {
        "prediction, float32": partial(compared, "float32", 0),
        f"prediction, {fast}": partial(compared, fast, 0),
        "samples, float32": partial(compared, "float32", 4),
        f"samples, {fast}": partial(compared, fast, 4),
    }


class Interruption(BaseException):
    """A training is stopped from outside."""


def resume(setting: Setting) -> Rows:
    # cuBLAS reads it once, when it is first used; without it, it is not deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    scale = setting.scale
    patch = scale.crop
    size = (2 * patch[0], patch[1] + 8, patch[2] + 8)
    data = gpu_work.training_set([made_volume(size, seed) for seed in range(scale.volumes)], patch)
    settings = gpu_work.settings_of(patch, interval=4, epochs=1, rate=1e-3)

    def weights(name: str, compute: Compute, stop: int | None = None) -> Tensor:
        """Train, and once more from the last checkpoint if it was stopped; return all that was learned."""

        def progress(now: Any) -> None:
            if stop is not None and now.step == stop:
                raise Interruption

        folder = setting.folder / name
        network = gpu_work.new_network(setting, compute.device)
        with contextlib.suppress(Interruption):
            # A checkpoint at each step: it is written after the progress of its own step, hence resumed one earlier.
            gpu_work.trained(network, data, settings, compute, folder, progress, minutes=0 if stop else 60)
            assert stop is None
        if stop is not None:
            network = gpu_work.new_network(setting, compute.device)
            gpu_work.trained(network, data, settings, compute, folder)
        return torch.cat([tensor.flatten().double() for tensor in network.state_dict().values()]).cpu()

    def compared(precision: str, deterministic: bool, earlier: dict[str, Any]) -> dict[str, Any]:
        compute = compute_in(precision, setting)
        torch.backends.cudnn.deterministic = deterministic
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        name = f"{precision}-{deterministic}"
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            first = weights(f"{name}-1", compute)
            again = weights(f"{name}-2", compute)
            resumed = weights(f"{name}-3", compute, stop=6)
        noise, difference = (float((other - first).norm() / first.norm()) for other in (again, resumed))
        names = {
            found for each in said for found in re.findall(r"(\w+) does not have a deterministic", str(each.message))
        }
        same = torch.equal(first, resumed)
        return {
            "two undisturbed runs": noise,
            "resumed and undisturbed": difference,
            "resumed bit for bit": same,
            "not deterministic": ", ".join(sorted(names)) or "none named" if deterministic else "not asked",
            "accepted": "the same bits, where two runs have them"
            if deterministic
            else "10 × that of two runs, or 1e-6",
            "ok": (same or noise > 0) if deterministic else difference <= max(10 * noise, 1e-6),
        }

    return {
        precision + (", deterministic" if deterministic else ""): partial(compared, precision, deterministic)
        for precision in ("float32", setting.fast, "float16")
        for deterministic in (False, True)
    }


@contextlib.contextmanager
def scarce(setting: Setting, leave: float) -> Iterator[None]:
    """Take all memory of the device but `leave` bytes. On a CPU the network refuses images above `leave` instead."""
    if setting.device == "cuda":
        torch.cuda.empty_cache()
        hog = torch.empty(int(torch.cuda.mem_get_info()[0] - leave), dtype=torch.uint8, device="cuda")
        try:
            yield
        finally:
            del hog
            torch.cuda.empty_cache()
        return
    encode = AnisotropicUNet.encode

    def refusing(network: AnisotropicUNet, image: Tensor) -> Any:
        if image.nbytes > leave:
            raise torch.OutOfMemoryError("as if")
        return encode(network, image)

    with mock.patch.object(AnisotropicUNet, "encode", refusing):
        yield


def needed(setting: Setting, work: Callable[[], object]) -> tuple[float, float]:
    """Return the bytes that `work` uses, and those that it asks the device for; on a CPU its largest image, twice."""
    if setting.device == "cuda":
        gpu_work.refresh(setting)
        used, asked = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        work()
        return torch.cuda.max_memory_allocated() - used, torch.cuda.max_memory_reserved() - asked
    sizes, encode = [0], AnisotropicUNet.encode

    def noting(network: AnisotropicUNet, image: Tensor) -> Any:
        sizes.append(image.nbytes)
        return encode(network, image)

    with mock.patch.object(AnisotropicUNet, "encode", noting):
        work()
    return max(sizes), max(sizes)


def memory(setting: Setting) -> Rows:
    scale = setting.scale
    image = made_volume(scale.sampled).image

    def compared(samples: int, lack: str, earlier: dict[str, Any]) -> dict[str, Any]:
        compute = compute_in("float32", setting)
        if lack != "later":
            compute = compute._replace(tile_memory=scale.scarce_gib * 2**30)
        network = gpu_work.new_network(setting, compute.device).eval()

        def work(given: Compute = compute) -> Tensor:
            if samples:
                return gpu_work.entropy_of(network, image, given, samples)
            return gpu_work.probability_of(network, image, given)

        expected = work()
        used, _ = needed(setting, work)
        half = compute._replace(tile_memory=scale.scarce_gib / 2 * 2**30)
        _, asked = needed(setting, lambda: work(half))
        leave = {"tiles": (used + asked) / 2 if asked < used else 0.9 * used, "all": asked / 4, "later": 0.6 * used}[
            lack
        ]
        outcome, good, difference = "as it should be", True, None
        with gpu_work.retries() as said:
            try:
                with scarce(setting, leave):
                    result = work()
                difference = float((result - expected).abs().mean())
                good = difference <= LIMITS["float32"].probability
            except UserError as error:
                outcome, good = f"says: {error}", "\n" not in str(error)
        gpu_work.refresh(setting)
        afterwards = float((work() - expected).abs().mean()) <= LIMITS["float32"].probability
        return {
            "needs (GiB)": used / 2**30,
            "has (GiB)": leave / 2**30,
            "retries": len(said),
            "outcome": outcome,
            "difference": difference,
            "works afterwards": afterwards,
            "accepted": f"{LIMITS['float32'].probability:g}, or one line",
            "ok": good and afterwards,
        }

    def training(earlier: dict[str, Any]) -> dict[str, Any]:
        compute = compute_in("float32", setting)
        network = gpu_work.new_network(setting, compute.device)
        data = gpu_work.training_set([made_volume(tuple(2 * n for n in scale.patch))], scale.patch)  # type: ignore[arg-type]
        settings = gpu_work.settings_of(scale.patch, epochs=1)
        leave = 2**30 if setting.device == "cuda" else 0
        outcome = "it went through"
        with contextlib.suppress(torch.OutOfMemoryError), scarce(setting, leave):
            outcome = "an error of torch instead of one line"
            try:
                gpu_work.trained(network, data, settings, compute, setting.folder / "memory")
                outcome = "it went through"
            except UserError as error:
                outcome = f"says: {error}"
        good = outcome.startswith("says: ") and "\n" not in outcome
        return {"has (GiB)": leave / 2**30, "outcome": outcome, "accepted": "one line", "ok": good}

    return {
        "prediction, too little for its tiles": partial(compared, 0, "tiles"),
        "prediction, far too little": partial(compared, 0, "all"),
        "prediction, less than at the start": partial(compared, 0, "later"),
        "samples, too little for their tiles": partial(compared, CHECKED_SAMPLES, "tiles"),
        "training, far too little": training,
    }
