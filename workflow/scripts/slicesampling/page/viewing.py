"""The read-only page of a finished run: volumes, references, predictions, queries and uncertainty."""

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flask import Flask, Response, jsonify, request

from .. import UserError
from ..answers.pictures import Pictures
from ..answers.store import to_runs
from ..cohort.volumes import all_volume_folders, load_preprocessed, read_canonical_mask
from ..domain.models import Model
from ..domain.records import read_table
from .server import guarded_app
from .work import Refused

logger = logging.getLogger(__name__)

REFERENCE = "reference"
"""The name of the cohort's mask beside the masks of models."""
MEASURE = "predictive_entropy"
"""The column of the uncertainty tables that is shown as a profile, the paper's measure."""
HIGHEST_ENTROPY = math.log(2)
"""Nats; the entropy of two equally probable classes, shown as 255."""
KEPT_MAPS = 4
"""The number of maps in memory, of one byte per voxel."""


class Maps:
    """Uncertainty maps of whole volumes by `make(model, volume)`, nats (z, y, x), one at a time in the background.

    The last request is computed next, and older requests are dropped. Thread-safe.
    """

    def __init__(self, make: Callable[[str, str], np.ndarray]) -> None:
        self._make = make
        self._kept: dict[tuple[str, str], np.ndarray | None] = {}
        self._wanted: tuple[str, str] | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()  # ends with the server, even during a map

    def get(self, model: str, volume: str) -> np.ndarray | None:
        """Return a map as bytes, with `HIGHEST_ENTROPY` as 255; None while it is computed. Raise Refused on failure."""
        key = model, volume
        with self._changed:
            if key not in self._kept:
                self._wanted = key
                self._changed.notify()
                return None
            found = self._kept[key] = self._kept.pop(key)  # move to the end, to be removed last
        if found is None:
            raise Refused(500, "the model could not be sampled; see the terminal of the server")
        return found

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted)
                key = self._wanted
                assert key is not None
            found = None
            try:
                found = np.rint(self._make(*key).clip(0, HIGHEST_ENTROPY) * (255 / HIGHEST_ENTROPY)).astype(np.uint8)
            except UserError as error:
                logger.error("%s", error)  # noqa: TRY400 - a line is enough
            except Exception:
                logger.exception("%s on %s", *key)
            with self._changed:
                self._kept[key] = found
                if self._wanted == key:
                    self._wanted = None
                while len(self._kept) > KEPT_MAPS:
                    del self._kept[next(iter(self._kept))]


class Run:
    """A run in the folder `results`, as it was when it was opened. Raise UserError if no volume is preprocessed.

    Models are named like their folders, such as seed1/uss-2-converged. entropy: the function for `Maps`, if models can
    be sampled.
    """

    def __init__(self, results: str | Path, entropy: Callable[[str, str], np.ndarray] | None = None) -> None:
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
        self.maps = Maps(entropy) if entropy else None
        models = sorted(self._results.glob("models/seed*/*/model.pt")) if entropy else []
        self.sampled = [f"{path.parts[-3]}/{path.parts[-2]}" for path in models]

    @lru_cache(maxsize=16)  # noqa: B019 - there is one run
    def volume(self, volume: str) -> dict[str, Any]:
        """Return the shape and spacing, masks, and queried slices by seed, strategy and iteration of a volume.

        models: those with known uncertainty of some volumes; sampled: those that can be sampled for a map. Raise
        KeyError for an unknown volume.
        """
        asked = []
        for (seed, round), table in self._queries.items():
            slices = table.loc[table["volume"] == volume, "slice"].tolist()
            if slices:
                model = Model.parse(round)
                named = {"seed": seed, "strategy": model.strategy, "iteration": model.iteration}
                asked.append(named | {"slices": slices})
        masks = [*([REFERENCE] if self._reference(volume).any() else []), *self._masks[volume]]
        shape, spacing = self.pictures.shape(volume), self.pictures.spacing(volume)
        known = {"masks": masks, "asked": asked, "models": list(self._uncertainty), "sampled": self.sampled}
        return {"shape": shape, "spacing": spacing} | known

    def profile(self, volume: str, model: str) -> list[float]:
        """Return the uncertainty of each slice; empty if it was not computed for this model and volume.

        Raise KeyError for an unknown model.
        """
        table = self._profiles(model)
        return table.loc[table["volume"] == volume].sort_values("slice")[MEASURE].tolist()

    @lru_cache(maxsize=4)  # noqa: B019 - there is one run; reading the tables of all models takes long
    def _profiles(self, model: str) -> pd.DataFrame:
        return pd.concat([read_table(path) for path in self._uncertainty[model]])[["volume", "slice", MEASURE]]

    def mask(self, volume: str, name: str) -> list[tuple[int, ...]]:
        """Return the runs (see `store.to_runs`) of each slice of a mask. Raise KeyError for an unknown mask."""
        mask = self._reference(volume) if name == REFERENCE else read_canonical_mask(self._masks[volume][name])
        return [to_runs(plane) for plane in mask]

    def _reference(self, volume: str) -> np.ndarray:
        return np.asarray(load_preprocessed(self._folders[volume]).mask) == 1


def make_viewer(run: Run, token: str) -> Flask:
    """Return the read-only application that serves the page of `run` to clients with `token`."""
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

    @app.get("/api/entropy")
    def entropy() -> Response:
        volume, model, index = _known(), request.args.get("model", ""), request.args.get("index", -1, int)
        if run.maps is None or model not in run.sampled or not 0 <= index < run.pictures.shape(volume)[0]:
            raise Refused(404, "there is no such map")
        found = run.maps.get(model, volume)
        if found is None:
            return Response(status=202)  # being computed: the client asks again
        return Response(found[index].tobytes(), mimetype="application/octet-stream")

    def _known() -> str:
        volume = request.args.get("volume", "")
        if volume not in run.splits:
            raise Refused(404, "there is no such volume")
        return volume

    return app
