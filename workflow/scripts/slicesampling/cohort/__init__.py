"""The cohort: the table of volumes, their files, and the common grid (section III-A)."""
