"""Export of an annotated set as a data set for nnU-Net, with the commands to train on it."""

import shlex
from pathlib import Path

from .. import STRUCTURE, UserError
from ..cohort.nnunet_dataset import CONFIGURATION, NUMBER, Labelled, dataset_name, partial_label, write_dataset
from ..cohort.table import split_volumes
from ..cohort.volumes import all_volume_folders, available, load_preprocessed
from ..domain.records import read_table
from ..jobs.files import replacing, require_new
from ..query.ledger import annotated_slices
from .annotators import annotated_masks
from .store import closed_rounds

FOLDS = 5
"""Members of an ensemble. All have the same split into the annotated set and the validation volumes."""


def export_dataset(folder: Path, results: Path, ledger: str, seed: int, answers: Path, number: int = NUMBER) -> str:
    """Write the data set of a `ledger`, such as uss-5, of a run in the folder `results`; return the next commands.

    answers: the folder of people's answers, which are used if they closed a round of this name. Raise UserError if
    `folder` is not empty, or if the run has no such ledger or no validation volume.
    """
    require_new(folder)
    if not NUMBER <= number <= 999:
        raise UserError(f"--dataset {number}: accepted are {NUMBER} to 999")
    path = results / f"annotations/seed{seed}/{ledger}.tsv"
    if not path.exists():
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.tsv"))) or "none"
        raise UserError(f"{path}: there is no such ledger; seed {seed} has {known}")
    mask_of = annotated_masks(answers, ledger if ledger in closed_rounds(answers) else None)
    folders = all_volume_folders(results)
    cohort = read_table(results / "cohort/cohort.tsv")
    validation = available(split_volumes(cohort, "val"), folders)
    test = available(split_volumes(cohort, "test"), folders)
    slices = annotated_slices(read_table(path))
    if not validation or not slices:
        raise UserError(
            f"{results}: {len(validation)} validation and {len(slices)} annotated volumes; accepted: 1 of each"
        )
    masks = {name: load_preprocessed(folders[name]).mask for name in (*slices, *validation)}
    name = dataset_name(number)
    with replacing(folder) as temporary:
        spacing = write_dataset(
            temporary,
            name,
            f"{STRUCTURE}, slices annotated in {ledger} of seed {seed}; all others carry the ignore label",
            (
                Labelled(volume, folders[volume], partial_label(mask_of(volume, masks[volume]), slices[volume]))
                for volume in slices
            ),
            (Labelled(volume, folders[volume], masks[volume]) for volume in validation),
            {volume: folders[volume] for volume in test},
            FOLDS,
        )
    count = sum(map(len, slices.values()))
    lines = [f"{folder}: {count} annotated slices of {len(slices)} volumes, {len(validation)} volumes for validation"]
    return "\n".join([*lines, "", *commands(folder, number, name, spacing, bool(test))])


def commands(folder: Path, number: int, name: str, spacing: tuple[float, ...], has_test: bool) -> list[str]:
    """Return the commands to prepare the data set, train and predict; they keep `spacing` (z, y, x), in mm."""
    where = folder.resolve()
    exports = [
        f"export nnUNet_{kind}={shlex.quote(str(where / f'nnUNet_{kind}'))}"
        for kind in ("raw", "preprocessed", "results")
    ]
    kept = " ".join(f"{step:g}" for step in spacing)
    images = shlex.quote(str(where / f"nnUNet_raw/{name}/imagesTs")) if has_test else "IMAGES"
    predicted = shlex.quote(str(where / "predicted"))
    members = " ".join(map(str, range(FOLDS)))
    return [
        *exports,
        f"nnUNetv2_plan_and_preprocess -d {number} -c {CONFIGURATION} -overwrite_target_spacing {kept}",
        f"for member in {members}; do nnUNetv2_train {number} {CONFIGURATION} $member; done",
        f"nnUNetv2_predict -d {number} -c {CONFIGURATION} -f {members} -i {images} -o {predicted}",
    ]
