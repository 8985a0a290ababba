"""Uncertainty slice sampling for annotation-efficient segmentation of CT volumes.

Library arrays are (z, y, x), spacing is (z, y, x) in mm, and torch tensors are (batch, channel, z, y, x).
The frame is the patient's: z grows towards the head, y towards the back, x towards the left (LPS).
"""

VERSION = "0.2.0"

STRUCTURE = "liver"
"""What is segmented, as tables, figures and pages call it."""

SELECTIVE, MAXIMUM = "_selective", "_maximum"
"""What is added to the name of a measure of uncertainty where its mean runs over the predicted structure only, or where
the largest slice of a volume counts."""


NOT_ANNOTATED = 2
"""In a mask on the preprocessed grid: the slice is not annotated. Beside it 1 is the structure, and 0 is not."""


class UserError(Exception):
    """A fault that the user can mend; the message names the file or key, the value, and what is accepted."""


def one_line(error: BaseException) -> str:
    """Return what an error of another library says, on one line and not too long, for a message of our own."""
    return " ".join(str(error).split())[:200]
