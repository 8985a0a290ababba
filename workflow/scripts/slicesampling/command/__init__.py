"""The command `slicesampling`: one module for each command beside Snakemake."""
