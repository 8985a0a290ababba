"""What is annotated, and what is asked for next (section II-D)."""
