"""What all other packages speak of: models, labels, and the records of a run. It reads and writes nothing but
tables."""
