"""Uncertainty slice sampling for annotation-efficient segmentation of CT volumes.

Library arrays are (z, y, x), spacing is (z, y, x) in mm, and torch tensors are (batch, channel, z, y, x).
The frame is the patient's: z grows towards the head, y towards the back, x towards the left (LPS).
"""

VERSION = "0.2.0"

STRUCTURE = "liver"
"""The segmented structure, as tables, figures and pages name it."""

SELECTIVE, MAXIMUM = "_selective", "_maximum"
"""Suffixes of columns of uncertainty: the mean over the predicted structure only, and the maximum over the slices of a
volume."""

NOT_ANNOTATED = 2
"""The value of slices that are not annotated in a mask on the preprocessed grid; 1 is the structure, 0 background."""


class UserError(Exception):
    """A fault that the user can fix; the message names the file or key, the value, and what is accepted."""


def one_line(error: BaseException) -> str:
    """Return the message of another library's error on one line, shortened, to be quoted in one of our own."""
    return " ".join(str(error).split())[:200]
