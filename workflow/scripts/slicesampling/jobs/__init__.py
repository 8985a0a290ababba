"""What every job of the workflow needs, whatever it computes: files, logs, the cluster, randomness."""
