"""The annotated set and the choice of what to annotate next (section II-D)."""
