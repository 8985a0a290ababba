"""The command `slicesampling`: all that is typed beside Snakemake, a module each."""
