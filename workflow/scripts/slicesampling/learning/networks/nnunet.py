"""nnU-Net (version 2) in the common model interface: an ensemble trained by nnU-Net, with predictions in memory.

Separate processes of nnU-Net prepare a data set of the annotated slices (see `cohort.nnunet_dataset`) and train on it.
All its folds have the same split; their models differ by initial weights and by the random patches.
"""

import contextlib
import importlib.metadata
import itertools
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import STRUCTURE, UserError, one_line
from ...cohort.nnunet_dataset import NUMBER, Labelled, dataset_name, partial_label, write_dataset
from ...cohort.volumes import load_preprocessed
from ...jobs.files import link_or_copy, replacing
from ...jobs.randomness import seed_of
from ..checkpoint import Terminated, Termination, write_state
from ..compute import Compute, computing, device_name, fingerprint
from ..ensembles import sampled
from ..inference import Sampled
from ..progress import Progress
from .interface import Task

logger = logging.getLogger(__name__)

DATASET = dataset_name(NUMBER)
FINAL = "checkpoint_final.pth"
KEPT = (FINAL, "checkpoint_latest.pth", "checkpoint_best.pth")
"""The checkpoints from which nnU-Net continues; it uses the first one that exists."""
PLANNED = "planned"
"""The file that holds the name of the plans after the data set is prepared."""
NUMPY_SCALARS: list[Any] = [
    np.float32(0).__reduce__()[0],  # the function that creates a scalar
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int64", "bool")),
]
"""The types in nnU-Net's checkpoints beside weights and plain numbers."""
SCORES = ("validation_jaccard", "validation_dice")
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 20
"""The time that nnU-Net's processes have to end before they are killed."""


def train(task: Task) -> list[dict[str, Any]]:
    """Train an ensemble with nnU-Net; see `interface.train`.

    Its members are trained one after the other. The next attempt continues the first unfinished member from nnU-Net's
    last checkpoint. A converged model with the same trainer as the model of the last iteration reuses that model.
    """
    require_nnunet()
    compute = computing(task.compute)
    validation = [load_preprocessed(task.folders[name]) for name in task.validation]
    identity = fingerprint(
        *(task.ledger, task.network, task.end, importlib.metadata.version("nnunetv2")),
        *(array for volume in task.annotated for array in (volume.image, volume.mask)),
        *(array for volume in validation for array in (volume.image, volume.mask)),
    )
    for path in dict.fromkeys((task.checkpoint, task.begun_checkpoint)):
        content = _trained(path, identity)
        if content is not None:
            logger.info("%s holds this model", path)
            break
    else:
        folder = task.checkpoint.with_suffix("")
        content = _train_members(task, identity, folder, compute)
        with replacing(task.checkpoint) as temporary:
            write_state(temporary, content)
        path = task.checkpoint
        shutil.rmtree(folder)
    with replacing(task.model) as temporary:
        link_or_copy(path, temporary)
        os.utime(temporary)  # Snakemake must see a new file
    history: list[dict[str, Any]] = content["history"]
    return history


def require_nnunet() -> None:
    """Raise UserError if nnU-Net is not installed."""
    try:
        importlib.metadata.version("nnunetv2")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("network.kind is nnunet, but nnunetv2 is not installed here; see envs/README.md") from None


def _trained(path: Path, identity: str) -> dict[str, Any] | None:
    """Return the model in a checkpoint if it has this identity, else None."""
    content = readable(path)
    return content if content is not None and content.get("identity") == identity else None


def readable(path: Path) -> dict[str, Any] | None:
    """Return the content of a file saved by torch; None if it does not exist or is truncated.

    Raise UserError if it holds objects whose loading would run code.
    """
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: holds more than weights and numbers ({one_line(error)})") from error
    except (OSError, RuntimeError, EOFError) as error:
        logger.warning("%s cannot be read (%s)", path, one_line(error))
        return None
    return content


def _train_members(task: Task, identity: str, folder: Path, compute: Compute) -> dict[str, Any]:
    """Prepare the data set in a folder, train all members, and return the content of the model's file."""
    network = task.network
    _write_dataset(task, identity, folder)
    spacing = json.loads((folder / "spacing").read_text(encoding="utf-8"))
    common = ["--dataset", str(NUMBER), "--configuration", network["configuration"]]
    with Termination(compute.device) as termination:
        nnunet = Processes(folder, task.compute["threads"], termination)
        planned = folder / PLANNED
        if not planned.exists():
            to_plan = ["--planner", network["planner"], "--spacing", *map(str, spacing), "--to", str(planned)]
            nnunet.run("prepare", *common, *to_plan)
        plans = planned.read_text(encoding="utf-8")
        results = results_of(folder, task.end, plans, network)
        common += ["--trainer", task.end, "--plans", plans]
        common += ["--device", compute.device.type, "--processes", str(task.compute["training_processes"])]
        states = [
            _train_fold(task, number, results / f"fold_{number}", common, nnunet) for number in range(network["folds"])
        ]
    # The file holds the number of mini-batches per epoch, among other things.
    debug = json.loads((results / "fold_0/debug.json").read_text(encoding="utf-8"))
    iterations = int(debug["num_iterations_per_epoch"])
    history = mean_history([history_of(state["logging"], iterations, compute) for state in states])
    return ensemble(states, results, network, spacing) | {"identity": identity, "history": history}


def ensemble(
    states: Sequence[dict[str, Any]], results: Path, network: dict[str, Any], spacing: Sequence[float]
) -> dict[str, Any]:
    """Return the content of a model's file for `NnUNet` from the final states of the trainings in `results`."""
    axes = states[0]["inference_allowed_mirroring_axes"]
    return {
        "network": network,
        "trainer": states[0]["trainer_name"],
        "plans": json.loads((results / "plans.json").read_text(encoding="utf-8")),
        "dataset": json.loads((results / "dataset.json").read_text(encoding="utf-8")),
        "spacing": list(spacing),
        "mirroring_axes": None if axes is None else [int(axis) for axis in axes],
        "members": [state["network_weights"] for state in states],
    }


def results_of(folder: Path, trainer: str, plans: str, network: dict[str, Any]) -> Path:
    """Return the folder of nnU-Net's trained models."""
    return folder / "nnUNet_results" / DATASET / f"{trainer}__{plans}__{network['configuration']}"


def _write_dataset(task: Task, identity: str, folder: Path) -> None:
    """Write the data set of a training into a folder, unless it exists."""
    same = folder / "identity"
    if same.exists() and same.read_text(encoding="utf-8") == identity:
        return
    if folder.exists():
        logger.info("%s belongs to another training set or other settings", folder)
        shutil.rmtree(folder)
    training = (
        Labelled(volume.name, task.folders[volume.name], partial_label(np.asarray(volume.mask), volume.slices))
        for volume in task.annotated
    )
    validation = (
        Labelled(name, task.folders[name], load_preprocessed(task.folders[name]).mask) for name in task.validation
    )
    about = f"{STRUCTURE}, annotated slices of {task.model.parent.name}; all others carry the ignore label"
    with replacing(folder) as temporary:
        temporary.mkdir()
        spacing = write_dataset(temporary, DATASET, about, training, validation, {}, task.network["folds"])
        (temporary / "spacing").write_text(json.dumps(spacing), encoding="utf-8")
        (temporary / "identity").write_text(identity, encoding="utf-8")


def _train_fold(task: Task, number: int, fold: Path, common: Sequence[str], nnunet: "Processes") -> dict[str, Any]:
    """Return the last state of a member; train it first if it is not finished."""
    state = last_state(fold)
    if not (fold / FINAL).exists():
        started = time.time()
        seed = seed_of(*task.key, "fold", number) % 2**63
        try:
            nnunet.run("train", *common, "--fold", str(number), "--seed", str(seed))
        except Terminated:
            if any(path.stat().st_mtime > started for path in fold.glob("checkpoint_*.pth")):
                task.progress(Progress(number, task.network["folds"], 0, 0.0, None))
            raise
        task.progress(Progress(number + 1, task.network["folds"], 0, 0.0, None))
        state = last_state(fold)
    if state is None or not (fold / FINAL).exists():
        raise UserError(f"{fold / FINAL}: nnU-Net has not written it; see the log")
    logger.info("fold %d is trained", number)
    return state


def last_state(fold: Path) -> dict[str, Any] | None:
    """Return the state from which nnU-Net continues; remove unreadable checkpoints that come before it."""
    for name in KEPT:
        state = readable(fold / name)
        if state is not None:
            return state
        (fold / name).unlink(missing_ok=True)
    return None


def history_of(logged: dict[str, list[Any]], iterations: int, compute: Compute) -> list[dict[str, Any]]:
    """Return the history of a member: a row per epoch, with nnU-Net's Dice over patches of the validation volumes."""
    rows = []
    for epoch, (loss, dice) in enumerate(zip(logged["train_losses"], logged["mean_fg_dice"], strict=True)):
        begun, ended = logged["epoch_start_timestamps"][epoch], logged["epoch_end_timestamps"][epoch]
        row: dict[str, Any] = {"step": iterations * (epoch + 1), "epoch": epoch, "loss": float(loss)}
        row |= {"validation_jaccard": float(dice / (2 - dice)), "validation_dice": float(dice)}
        row |= {"seconds": float(ended - begun), "device": device_name(compute.device)}
        rows.append(row | {"precision": "float16" if compute.device.type == "cuda" else "float32"})
    return rows


def mean_history(histories: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the mean of the members' histories, with the sum of their seconds. nnU-Net uses the last state."""
    rows = []
    for of_epoch in zip(*histories, strict=True):
        means = {name: float(np.mean([row[name] for row in of_epoch])) for name in ("loss", *SCORES)}
        seconds = sum(row["seconds"] for row in of_epoch)
        rows.append(of_epoch[0] | means | {"seconds": seconds, "chosen": False})
    rows[-1]["chosen"] = True
    return rows


class Processes:
    """Runs nnU-Net on a folder with `threads` threads, until it ends or `termination` is requested."""

    def __init__(self, folder: Path, threads: int, termination: Termination) -> None:
        self._threads, self._termination = str(threads), termination
        paths = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {f"nnUNet_{kind}": str(folder / f"nnUNet_{kind}") for kind in ("raw", "preprocessed", "results")}
        usual = {"nnUNet_n_proc_DA": self._threads, "nnUNet_def_n_proc": self._threads}
        self._environment = usual | os.environ | own | {"PYTHONPATH": os.pathsep.join(paths)}

    def run(self, work: str, *arguments: str) -> None:
        """Run a process; raise UserError with its last line if it fails, Terminated if termination is requested."""
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.nnunet_process", work, "--threads", self._threads, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sys.stdout,
                stderr=errors,
                start_new_session=True,
                close_fds=False,  # surviving processes keep the lock on the checkpoint
            )
            try:
                while process.returncode is None:
                    self._termination.check()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(POLL_SECONDS)
            finally:
                _end(process)
                errors.seek(0)
                said = errors.read().decode(errors="replace")
                logger.info("stderr of nnU-Net:\n%s", said)
        if process.returncode:
            lines = [line for line in said.splitlines() if line.strip()] or [f"exit status {process.returncode}"]
            raise UserError(f"nnU-Net could not {work}: {lines[-1].strip()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all processes that it has started."""
    for which in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, which)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # processes that outlived it


def load(content: dict[str, Any], compute: Compute) -> "NnUNet":
    """Return the ensemble that `train` wrote."""
    require_nnunet()
    return NnUNet(content, compute)


class NnUNet:
    """An ensemble of nnU-Net's models, with the `content` that `train` wrote.

    Raise UserError if nnU-Net does not know its trainer.
    """

    def __init__(self, content: dict[str, Any], compute: Compute) -> None:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
        from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        self._device, self._members, self._spacing = compute.device, content["members"], content["spacing"]
        self._mirrors, axes = content["network"]["mirroring"], content["mirroring_axes"]
        plans, dataset, trainer = PlansManager(content["plans"]), content["dataset"], content["trainer"]
        configuration = plans.get_configuration(content["network"]["configuration"])
        try:
            trainer_class = recursive_find_trainer_class_by_name(trainer)
        except RuntimeError as error:
            raise UserError(f"network.nnunet.trainer: nnU-Net does not find {trainer} ({one_line(error)})") from error
        network = trainer_class.build_network_architecture(
            plans,
            configuration,
            determine_num_input_channels(plans, configuration, dataset),
            plans.get_label_manager(dataset).num_segmentation_heads,
            enable_deep_supervision=False,
        )
        self._predictor = nnUNetPredictor(device=compute.device, allow_tqdm=False)
        self._predictor.manual_initialization(
            network, plans, configuration, self._members, dataset, trainer, axes and tuple(axes)
        )
        # nnU-Net numbers the axes after its transposition, and in 2d only those of a slice.
        left_out = 3 - len(configuration.patch_size)
        self._axes = [plans.transpose_forward[axis + left_out] for axis in axes or ()]

    def probability(self, image: np.ndarray | Tensor) -> Tensor:
        """Return nnU-Net's prediction: the softmax of the mean scores of all members and, if set, mirrored patches."""
        return self._predict(self._members, _array(image), self._mirrors).to(self._device)

    def sample(
        self, image: np.ndarray | Tensor, samples: int, key: Sequence[str | int], keep_mean: bool = False
    ) -> Sampled:
        """Use the members as samples, with mirroring each on each mirrored volume; `samples` and `key` are ignored."""
        found = sampled(self._maps(_array(image)), keep_mean)
        mean = found.mean_probability
        return Sampled(
            {name: values.to(self._device) for name, values in found.measures.items()},
            found.liver.to(self._device),
            None if mean is None else mean.to(self._device),
        )

    def _maps(self, image: np.ndarray) -> Iterator[Tensor]:
        """Yield each member's probability of liver (z, y, x), with mirroring for each mirrored volume."""
        lengths = range(len(self._axes) + 1) if self._mirrors else (0,)
        mirrored = [axes for length in lengths for axes in itertools.combinations(self._axes, length)]
        for member in self._members:
            for axes in mirrored:
                yield self._predict([member], np.flip(image, axes), mirroring=False).flip(axes)

    def _predict(self, members: list[dict[str, Tensor]], image: np.ndarray, mirroring: bool) -> Tensor:
        """Return the probability of liver, float32 (z, y, x) on the CPU."""
        self._predictor.list_of_parameters, self._predictor.use_mirroring = members, mirroring
        _, probability = self._predictor.predict_single_npy_array(
            image[None].astype(np.float32), {"spacing": self._spacing}, save_or_return_probabilities=True
        )
        return torch.from_numpy(np.ascontiguousarray(probability[1], dtype=np.float32))


def _array(image: np.ndarray | Tensor) -> np.ndarray:
    return image.cpu().numpy() if isinstance(image, Tensor) else image
