"""Infrastructure of all jobs of the workflow: files, logs, the cluster, and random numbers."""
