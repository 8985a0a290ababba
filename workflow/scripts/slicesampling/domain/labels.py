"""The label of a volume: its mask files, and the values of each structure in them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from .. import STRUCTURE


@dataclass(frozen=True)
class StructureLabel:
    """One structure in the masks of a volume.

    structure: its name. path: the file or folder of the mask. values: the values of the structure in the mask, for
    DICOM the numbers of segments or regions; empty: the only one present. touching: values of objects that belong to
    the structure if they touch it, such as tumours.
    """

    structure: str
    path: Path
    values: frozenset[int] = frozenset()
    touching: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Label:
    """The structures of a volume, in order; ignore: the value of voxels that are not annotated."""

    structures: tuple[StructureLabel, ...]
    ignore: int | None = None

    @classmethod
    def single(
        cls, path: Path, values: Iterable[int] = (), touching: Iterable[int] = (), ignore: int | None = None
    ) -> "Label":
        """Return the label of a volume with one structure, `STRUCTURE`."""
        return cls((StructureLabel(STRUCTURE, path, frozenset(values), frozenset(touching)),), ignore)

    def with_values(self, values: Iterable[int]) -> "Label":
        """Return the label with `values` for each structure that has none."""
        given = frozenset(values)
        return replace(
            self, structures=tuple(one if one.values else replace(one, values=given) for one in self.structures)
        )
