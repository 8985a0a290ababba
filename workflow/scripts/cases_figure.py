"""Show the outlines of all converged models on representative test cases."""

from pathlib import Path

from slicesampling.cohort.volumes import load_preprocessed, read_canonical_mask, volume_folders
from slicesampling.domain.metrics import METRICS
from slicesampling.domain.records import read_table
from slicesampling.jobs.job import start
from slicesampling.publication.figures import cases_figure, disagreement_slice, representative_cases
from slicesampling.publication.style import save_figure

start(snakemake)
metrics = read_table(snakemake.input.metrics)
metrics = metrics[(metrics["seed"] == snakemake.params.seed) & metrics["converged"]]
folders = volume_folders(snakemake.input.volumes)
shards = [Path(path) for path in snakemake.input.predictions]
cases = []
for title, name in representative_cases(metrics):
    volume = load_preprocessed(folders[name])
    masks = {
        shard.parent.name: read_canonical_mask(shard / f"{name}.nii.gz")
        for shard in shards
        if (shard / f"{name}.nii.gz").exists()
    }
    index = disagreement_slice(list(masks.values()), volume.mask)
    scores = metrics[metrics["volume"] == name].set_index("model")[list(METRICS)]
    cases.append(
        {
            "title": title,
            "volume": name,
            "image": volume.image[index],
            "spacing": tuple(volume.grid.spacing[1:]),
            "reference": volume.mask[index].astype(bool),
            "outlines": {model: mask[index] for model, mask in masks.items()},
            "metrics": scores.to_dict("index"),
        }
    )
save_figure(cases_figure(cases), Path(snakemake.output[0]).with_suffix(""))
