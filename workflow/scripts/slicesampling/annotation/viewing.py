"""The page over a run that has ended, to look at alone: volumes, references, predictions, queries and uncertainty."""

import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flask import Flask, Response, jsonify, request

from .. import UserError
from ..cohort.volumes import all_volume_folders, load_preprocessed, read_canonical_mask
from ..jobs.tsv import read_table
from .answers import to_runs
from .pictures import Pictures
from .rounds import iteration_of
from .server import guarded_app
from .work import Refused

REFERENCE = "reference"
"""What the mask of the cohort is called beside the masks of models."""
MEASURE = "predictive_entropy"
"""The column of the uncertainty tables that is shown as a profile: the paper's."""


class Run:
    """A run in the folder `results`, as it was when it was opened. Raises UserError where nothing is preprocessed.

    Models are called as their folders are: seed1/uss-2-converged.
    """

    def __init__(self, results: str | Path) -> None:
        self._results = Path(results)
        self._folders = all_volume_folders(self._results)
        if not self._folders:
            raise UserError(f"{self._results}/preprocessed: holds no volume; accepted: the results of a run")
        self.pictures = Pictures(results)
        path = self._results / "cohort/cohort.tsv"
        splits = read_table(path).set_index("volume")["split"] if path.exists() else {}
        self.splits = {volume: str(splits.get(volume, "")) for volume in sorted(self._folders)}
        self._masks: dict[str, dict[str, Path]] = defaultdict(dict)
        for kind in ("segmentations", "predictions"):
            for file in sorted(self._results.glob(f"{kind}/seed*/*/shard*/*.nii.gz")):
                model = f"{file.parts[-4]}/{file.parts[-3]}"
                self._masks[file.name.removesuffix(".nii.gz")][model] = file
        self._queries = {
            path.relative_to(self._results).with_suffix("").parts[1:]: read_table(path)
            for path in sorted(self._results.glob("queries/seed*/*.tsv"))
        }
        self._uncertainty: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._results.glob("uncertainty/seed*/*/slices-shard*.tsv")):
            self._uncertainty[f"{path.parts[-3]}/{path.parts[-2]}"].append(path)

    @lru_cache(maxsize=16)  # noqa: B019 - there is one run
    def volume(self, volume: str) -> dict[str, Any]:
        """Return what there is of a volume: masks, slices by the seed, strategy and iteration that asked for them.

        Raises KeyError where there is no such volume. models: whose uncertainty is known of some volumes.
        """
        asked = []
        for (seed, round), table in self._queries.items():
            slices = table.loc[table["volume"] == volume, "slice"].tolist()
            if slices:
                strategy = re.sub(r"-\d+$", "", round)
                asked.append({"seed": seed, "strategy": strategy, "iteration": iteration_of(round), "slices": slices})
        masks = [*([REFERENCE] if self._reference(volume).any() else []), *self._masks[volume]]
        shape, spacing = self.pictures.shape(volume), self.pictures.spacing(volume)
        return {"shape": shape, "spacing": spacing, "masks": masks, "asked": asked, "models": list(self._uncertainty)}

    def profile(self, volume: str, model: str) -> list[float]:
        """Return the uncertainty of each slice; empty where this model has not looked at the volume.

        Raises KeyError where there is no such model.
        """
        table = self._profiles(model)
        return table.loc[table["volume"] == volume].sort_values("slice")[MEASURE].tolist()

    @lru_cache(maxsize=4)  # noqa: B019 - there is one run; the tables of all its models would be long to read
    def _profiles(self, model: str) -> pd.DataFrame:
        return pd.concat([read_table(path) for path in self._uncertainty[model]])[["volume", "slice", MEASURE]]

    def mask(self, volume: str, name: str) -> list[tuple[int, ...]]:
        """Return the runs (see `answers.to_runs`) of each slice of a mask. Raises KeyError where it is not there."""
        mask = self._reference(volume) if name == REFERENCE else read_canonical_mask(self._masks[volume][name])
        return [to_runs(plane) for plane in mask]

    def _reference(self, volume: str) -> np.ndarray:
        return np.asarray(load_preprocessed(self._folders[volume]).mask) == 1


def make_viewer(run: Run, token: str) -> Flask:
    """Return the application that serves the page over `run` to whoever knows `token`. Nothing can be changed by it."""
    app = guarded_app(token, "run.html", run.pictures, lambda: run.splits)

    @app.get("/api/run")
    def volumes() -> Response:
        return jsonify(run.splits)

    @app.get("/api/volume")
    def volume() -> Response:
        return jsonify(run.volume(_known()))

    @app.get("/api/mask")
    def mask() -> Response:
        volume, name = _known(), request.args.get("mask", "")
        if name not in run.volume(volume)["masks"]:
            raise Refused(404, "there is no such mask")
        return jsonify(run.mask(volume, name))

    @app.get("/api/profile")
    def profile() -> Response:
        volume, model = _known(), request.args.get("model", "")
        if model not in run.volume(volume)["models"]:
            raise Refused(404, "there is no such model")
        return jsonify(run.profile(volume, model))

    def _known() -> str:
        volume = request.args.get("volume", "")
        if volume not in run.splits:
            raise Refused(404, "there is no such volume")
        return volume

    return app
