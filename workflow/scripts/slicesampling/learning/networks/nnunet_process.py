"""Separate processes of `nnunet`: `python -m slicesampling.learning.networks.nnunet_process prepare|train|measure`.

nnU-Net starts further processes, which import the main module of this process; it must not be a job's script.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from ...jobs.files import write_text

TIMED_STEPS = 3
"""The number of timed steps, after as many to warm up."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=("prepare", "train", "measure"))
    parser.add_argument("--dataset", type=int, required=True)
    parser.add_argument("--configuration", required=True)
    parser.add_argument("--planner")
    parser.add_argument("--spacing", type=float, nargs=3)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--plans")
    parser.add_argument("--trainer")
    parser.add_argument("--trainers", nargs="+")
    parser.add_argument("--fold", type=int)
    parser.add_argument("--device")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    {"prepare": prepare, "train": train, "measure": measure}[given.work](given)


def prepare(given: argparse.Namespace) -> None:
    """Plan, preprocess without resampling, and write the name of the plans to a file."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments, preprocess

    plans = plan_experiments([given.dataset], given.planner, overwrite_target_spacing=given.spacing)
    preprocess([given.dataset], plans, [given.configuration], [given.threads], show_progress_bar=False)
    write_text(given.to, plans)


def train(given: argparse.Namespace) -> None:
    """Train one member of the ensemble, from its checkpoint if there is one."""
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint, run_training

    torch.manual_seed(given.seed)  # initial weights; nnU-Net draws patches and transformations without a seed
    which = (str(given.dataset), given.configuration, given.fold, given.trainer, given.plans)
    if given.processes > 1:
        run_training(*which, num_gpus=given.processes, continue_training=True)
        return
    trainer = get_trainer_from_args(*which, continue_training=True, device=torch.device(given.device))
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    if given.device == "cuda":
        torch.backends.cudnn.benchmark = True
    trainer.run_training()


def measure(given: argparse.Namespace) -> None:
    """Time a few training and validation steps, and write the times and the lengths of trainings to a file."""
    from nnunetv2.run.run_training import get_trainer_from_args

    def trainer_called(name: str) -> Any:
        which = (str(given.dataset), given.configuration, given.fold, name, given.plans)
        return get_trainer_from_args(*which, device=torch.device(given.device))

    lengths = {}
    for name in given.trainers:
        trainer = trainer_called(name)
        lengths[name] = [trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch]
    trainer.on_train_start()
    seconds = {}
    for work, function, batches in (
        ("step", trainer.train_step, trainer.dataloader_train),
        ("validation_step", trainer.validation_step, trainer.dataloader_val),
    ):
        times = []
        for _ in range(2 * TIMED_STEPS):
            started = time.perf_counter()
            function(next(batches))
            times.append(time.perf_counter() - started)
        seconds[work] = sorted(times[TIMED_STEPS:])[TIMED_STEPS // 2]
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    write_text(given.to, json.dumps(seconds | {"lengths": lengths}))


if __name__ == "__main__":
    main()
