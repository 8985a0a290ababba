"""What is annotated, what is asked for next, and who answers (section II-D)."""
