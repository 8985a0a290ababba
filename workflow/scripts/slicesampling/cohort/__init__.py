"""The volumes: the table that names them, the files they come in, and the grid they are brought to (section III-A)."""
