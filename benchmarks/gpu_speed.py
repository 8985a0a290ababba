"""How fast it is: steps by precision, data path and switch, Monte Carlo dropout, validation, the whole experiment."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import common
import gpu_step
import gpu_work
import inference
import numpy as np
import torch
from gpu_step import Step, Switches
from gpu_work import Batch, Rows, Setting, compute_in, made_volume
from slicesampling.learning.geometry import axes
from slicesampling.learning.tiling import tile_cost
from slicesampling.learning.training import validate

PASSES = 3
"""A training step in forward passes: the backward pass takes two."""
GAIN = 1.02
"""What a switch must gain to be among the best: above the spread of repeated measurements."""
COMPARED_STEPS = 5
"""Steps whose losses are compared with those of the baseline."""
VALIDATION_VOLUMES = 10
"""As in the paper and in config/config.yaml."""
LIVER_SHARE = 100 / 282
"""Slices with liver among a volume's, on average (Table 2 of the paper)."""
WORKERS = 8
"""Jobs at a time in the plan, as in config/config.yaml."""

SWITCHES = {
    "baseline": Switches(),
    "cudnn.benchmark": Switches(benchmark=True),
    "foreach Adam": Switches(adam="foreach"),
    "fused Adam": Switches(adam="fused"),
    "channels padded to multiples of 8": Switches(padded=True),
    "contiguous instead of channels last": Switches(contiguous=True),
    "maxima of strided views instead of max_pool3d": Switches(strided_pool=True),
    "loss read one step later": Switches(deferred=True),
    "CUDA graph of the step": Switches(graph=True),
    "torch.compile": Switches(compiled="default"),
    "torch.compile, reduce-overhead": Switches(compiled="reduce-overhead"),
}


def precision(setting: Setting) -> Rows:
    def measured(name: str, earlier: dict[str, Any]) -> dict[str, Any]:
        compute = compute_in(name, setting)
        step = Step(setting, compute)
        batch = gpu_work.constant_batch(step.network, step.patch, compute)
        result = gpu_step.speed(lambda: step(batch), compute.device, setting.seconds)
        cost = tile_cost(step.network.architecture, step.patch)
        work = 2 * PASSES * gpu_work.BATCH * (cost.encode + cost.decode)
        return result | {
            "memory (GiB)": common.peak_gib(torch.device(setting.device)),
            "TFLOP/s": result["steps/s"] * work / 1e12,
            "loss": step.losses[-1],
        }

    return {name: partial(measured, name) for name in gpu_work.PRECISIONS}


class _EnoughTimed(BaseException):
    pass


def data(setting: Setting) -> Rows:
    scale = setting.scale

    def volumes() -> list[Any]:
        """Volumes as maps of files, as the workflow preprocesses them."""
        for number in range(scale.volumes):
            if not (setting.folder / f"mask{number}.npy").exists():
                volume = made_volume(scale.clinical, number)
                np.save(setting.folder / f"image{number}.npy", volume.image)
                np.save(setting.folder / f"mask{number}.npy", volume.mask)
        return [
            gpu_work.ValidationVolume(
                *(np.load(setting.folder / f"{kind}{number}.npy", mmap_mode="c") for kind in ("image", "mask"))
            )
            for number in range(scale.volumes)
        ]

    def fed(home: str, earlier: dict[str, Any]) -> dict[str, Any]:
        compute = compute_in(setting.fast, setting)
        step = Step(setting, compute)
        waits: list[float] = []
        with contextlib.ExitStack() as stack:
            if home == "constant":
                batch = gpu_work.constant_batch(step.network, step.patch, compute)
                stream: Iterator[Batch] = iter(lambda: batch, None)
            else:
                place = compute.device if home == "device" else None
                training_set = gpu_work.training_set(volumes(), step.patch, place)
                stream = stack.enter_context(contextlib.closing(gpu_work.batches(training_set, step.network, compute)))

            def one() -> None:
                started = time.perf_counter()
                batch = next(stream)
                waits.append(time.perf_counter() - started)
                step(batch)

            result = gpu_step.speed(one, compute.device, setting.seconds)
        constant = earlier.get("one constant batch", result)["steps/s"]
        wait = 1000 * float(np.mean(waits[gpu_step.WARM_UP :]))
        return result | {
            "of a constant batch (%)": 100 * result["steps/s"] / constant,
            "wait (ms a step)": wait,
            "memory (GiB)": common.peak_gib(torch.device(setting.device)),
        }

    def whole(earlier: dict[str, Any]) -> dict[str, Any]:
        """The library's own training, with the data where it puts them."""
        compute = compute_in(setting.fast, setting)
        training_set = gpu_work.training_set(volumes(), scale.patch)
        times: list[float] = []

        def progress(now: Any) -> None:
            times.append(time.perf_counter())
            if len(times) > gpu_step.WARM_UP + 1 and times[-1] - times[gpu_step.WARM_UP] > setting.seconds:
                raise _EnoughTimed

        network = gpu_work.new_network(setting, compute.device)
        settings = gpu_work.settings_of(scale.patch, epochs=10**6)
        with contextlib.suppress(_EnoughTimed):
            gpu_work.trained(network, training_set, settings, compute, setting.folder / "training", progress)
        timed = times[gpu_step.WARM_UP :]
        rate = (len(timed) - 1) / (timed[-1] - timed[0])
        constant = earlier.get("one constant batch", {"steps/s": rate})["steps/s"]
        share, memory = 100 * rate / constant, common.peak_gib(torch.device(setting.device))
        return {"steps/s": rate, "of a constant batch (%)": share, "memory (GiB)": memory}

    return {
        "one constant batch": partial(fed, "constant"),
        "volumes on the device": partial(fed, "device"),
        "volumes in files": partial(fed, "files"),
        "the library's train()": whole,
    }


def combined(earlier: dict[str, Any]) -> Switches:
    """Return the switches that gained, together: of those that exclude each other, the better."""
    base = earlier["baseline"]["steps/s"]
    gains = {name: row["steps/s"] / base for name, row in earlier.items() if name in SWITCHES and "steps/s" in row}
    best = Switches()
    for name, _ in sorted(gains.items(), key=lambda item: item[1]):  # the best last, so that it overrules the others
        if gains[name] >= GAIN:
            changed = {key: value for key, value in SWITCHES[name]._asdict().items() if value}
            if "graph" in changed:
                best = best._replace(compiled="")
            if "compiled" in changed:
                best = best._replace(graph=False)
            best = best._replace(**changed)
    return best


def switches(setting: Setting) -> Rows:
    def measured(name: str, earlier: dict[str, Any]) -> dict[str, Any]:
        chosen = SWITCHES.get(name, Switches())
        if name == "best together":
            if "steps/s" not in earlier.get("baseline", {}):
                raise gpu_work.LeftOut("no baseline")
            chosen = combined(earlier)
            if chosen == Switches():
                raise gpu_work.LeftOut("no switch gained anything")
        if chosen.compiled and setting.device == "cpu":  # where compiling takes half a minute: traced only
            if chosen.compiled != "default":
                raise gpu_work.LeftOut("GPU only")
            chosen = chosen._replace(compiled="aot_eager")
        compute = compute_in(setting.fast, setting)
        step = Step(setting, compute, chosen)
        batch = gpu_work.constant_batch(step.network, step.patch, compute)
        result = gpu_step.speed(lambda: step(batch), compute.device, setting.seconds)
        step.read()
        base = earlier.get("baseline", result | {"losses": step.losses})
        losses = step.losses[:COMPARED_STEPS]
        difference = max(abs(a - b) for a, b in zip(losses, base["losses"], strict=False))
        comparable = not chosen.padded and not chosen.contiguous  # these draw other weights, or other dropout
        on = [key if value is True else f"{key} {value}" for key, value in chosen._asdict().items() if value]
        return result | {
            "times the baseline": result["steps/s"] / base["steps/s"],
            "difference of the loss": difference if comparable else "other numbers",
            "memory (GiB)": common.peak_gib(torch.device(setting.device)),
            "switches": ", ".join(on) or "none",
            "losses": losses,
        }

    return {name: partial(measured, name) for name in (*SWITCHES, "baseline, again", "best together")}


def sampling(setting: Setting) -> Rows:
    scale = setting.scale

    def measured(name: str, earlier: dict[str, Any]) -> dict[str, Any]:
        image = made_volume(scale.sampled).image
        compute, samples = compute_in(setting.fast, setting), scale.samples
        width = 1.0 if setting.device == "cuda" else 0.125
        work = {
            "this engine": lambda: inference.engine(image, scale.filters, compute, samples),
            "full passes, the paper's tiles": lambda: inference.full_passes(
                image, scale.filters, compute, samples, large=False, tile=scale.paper_tile
            ),
            "full passes, this engine's tiles": lambda: inference.full_passes(
                image, scale.filters, compute, samples, large=True
            ),
            "MONAI UNet, sliding windows": lambda: inference.monai(
                image, width, compute, samples, samples, basic=False, windows=scale.windows
            ),
            "MONAI BasicUNet, sliding windows": lambda: inference.monai(
                image, width, compute, samples, 2, basic=True, windows=scale.windows
            ),
        }
        result = work[name]()
        first = earlier.get("this engine", result)["seconds"]
        return {
            "parameters": result["parameters"],
            "work of a sample (MAC a voxel)": result["macs"],
            "seconds": result["seconds"],
            "times this engine": result["seconds"] / first,
            "memory (GiB)": result["memory"],
            "timed on": result["timed"],
        }

    names = ["this engine", "full passes, the paper's tiles", "full passes, this engine's tiles"]
    names += ["MONAI UNet, sliding windows", "MONAI BasicUNet, sliding windows"]
    return {name: partial(measured, name) for name in names}


def validation(setting: Setting) -> Rows:
    def measured(name: str, earlier: dict[str, Any]) -> dict[str, Any]:
        compute = compute_in(name, setting)
        network = gpu_work.new_network(setting, compute.device)
        volume = made_volume(setting.scale.clinical)
        result = gpu_step.speed(
            lambda: validate(network, [volume], gpu_work.WINDOW, compute), compute.device, setting.seconds
        )
        one = 1 / result.pop("steps/s")
        return {
            "shape": setting.scale.clinical,
            "one volume (s)": one,
            f"{VALIDATION_VOLUMES} volumes, estimated (s)": VALIDATION_VOLUMES * one,
            "first volume (s)": result.pop("first step (s)"),
            "memory (GiB)": common.peak_gib(torch.device(setting.device)),
            **result,
        }

    return {name: partial(measured, name) for name in dict.fromkeys((setting.fast, "float32"))}


def experiment(setting: Setting) -> Rows:
    """The library's plan, on a synthetic scan of clinical size, for the paper's configuration and as many volumes."""

    def measured(earlier: dict[str, Any]) -> dict[str, Any]:
        import pandas as pd
        import tabulate  # noqa: F401 - the plan's table needs it
        import yaml
        from slicesampling import plan
        from slicesampling.experiment import Experiment
        from slicesampling.phantom.files import write_volume
        from slicesampling.phantom.scanner import scan_of
        from slicesampling.phantom.sites import plan_cohort

        config = yaml.safe_load((Path(__file__).parents[1] / "config/config.yaml").read_text(encoding="utf-8"))
        if setting.device == "cpu":
            rehearse(config, setting.scale)
            for module in (plan, plan.plan_aunet):
                module.IMPORTS = dict.fromkeys(module.IMPORTS, "json")  # importing takes longer than all the rest
        compute = compute_in(setting.fast, setting)
        phantom = config["phantom"]
        cohort = plan_cohort(phantom, str(setting.folder))
        cohort = cohort[cohort["exclude"] == ""].reset_index(drop=True)
        grids = [scan_of(row, phantom).grid for _, row in cohort.iterrows()]
        table = pd.DataFrame(
            [(*grid.shape, *grid.spacing) for grid in grids],
            columns=["slices", "rows", "columns", "spacing_z", "spacing_y", "spacing_x"],
        ).assign(split=cohort["split"])
        table["structure_slices"] = (table["slices"] * LIVER_SHARE).round()
        typical = cohort.loc[(table["slices"] - table["slices"].median()).abs().idxmin()]
        write_volume(typical, phantom)
        times = plan.measure(config, compute, typical)
        experiment = Experiment(config, cohort)
        applied = experiment.shards("uncertainty"), experiment.shards("test")
        models, scored = len(experiment.models), len(experiment.scored_models)
        counts = {"preprocess": len(experiment.shards("preprocessing")), "train": models}  # one seed
        counts |= {"uncertainty": scored * len(applied[0]), "predict": models * len(applied[1])}
        jobs = counts | {"evaluate": counts["predict"]}
        result = plan.estimate(experiment, times, table, jobs)
        return {
            "volumes": len(table),
            "measured on": axes(grids[typical.name].shape),
            "jobs": sum(jobs.values()),
            "device hours": float(result.stages["device_hours"].sum()),
            f"hours with {WORKERS} jobs at a time": result.wall_hours(WORKERS),
            **{f"training steps/s, {place}": 1 / seconds for place, seconds in times.network.step.items()},
            "G MAC/s": 1e-9 / times.network.decode,
            "text": plan.describe(result, times, WORKERS),
        }

    return {setting.fast: measured}


def rehearse(config: dict[str, Any], scale: gpu_work.Scale) -> None:
    """Make the paper's configuration small."""
    config["network"]["aunet"]["filters"] = list(scale.filters)
    config["network"]["aunet"]["training"]["patch"] = list(scale.patch)
    config["uncertainty"]["samples"] = scale.samples
    config["preprocessing"]["spacing"] = [8, 16, 16]
    config["phantom"]["matrix"] = 32
    for counts in config["phantom"]["sites"].values():
        counts.update({split: -(-count // 40) for split, count in counts.items()})
