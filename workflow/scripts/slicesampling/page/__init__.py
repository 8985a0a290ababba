"""The page on which people annotate, and on which a finished run is looked at."""
