"""What importers find: volumes with their masks, and which parts of a mask are the structure."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..domain.labels import Label

TUMOUR_NAMES = re.compile(r"tumou?r|cancer|lesion|metasta", re.IGNORECASE)
"""Labels that lie inside the organ and count as part of it, as the paper counts the tumours of LiTS as liver."""

TUMOUR_WORDS = frozenset(("primary", "secondary", "left", "right", "lobe", "segment", "gtv", "roi", "of", "in", "the"))
"""What may stand beside them without naming another organ."""


class Case(NamedTuple):
    """One volume with its label, None where people annotate it; split, patient, site: empty where not given."""

    name: str
    image: Path
    label: Label | None
    split: str = ""
    patient: str = ""
    site: str = ""


class Found(NamedTuple):
    """What an importer found: cases to use, what it left out with the reason, and what it decided, a line each."""

    cases: list[Case]
    left_out: list[str]
    decided: tuple[str, ...] = ()


def numbered(cases: Sequence[Case], first: int = 1) -> list[Case]:
    """Return cases with numbers in place of their names and patients, in their order, from `first` on.

    A patient keeps its number.
    """
    named = dict.fromkeys(case.patient for case in cases if case.patient)
    patients = {patient: k for k, patient in enumerate(named, start=first)}
    return [
        case._replace(name=f"{k:03}", patient=f"patient{patients[case.patient]:03}" if case.patient else "")
        for k, case in enumerate(cases, start=first)
    ]


def structure_names(structure: str) -> set[str]:
    """Return the names of a structure, which may be several with commas between them, in lower case."""
    return {name.strip().lower() for name in structure.split(",")}


class Parts(NamedTuple):
    """Numbers of the parts of a mask that are a structure by their names, and of tumours that are if they touch it."""

    structure: list[int]
    tumours: list[int]


def chosen_parts(names: Mapping[int, str], structure: str) -> Parts:
    """Return which parts of a mask are `structure`, by their names; of several (`structure_names`) all count.

    A tumour whose name says that it is of the structure is part of it; one whose name says nothing more counts where it
    touches it; one of another organ, such as a bladder tumour, is none.
    """
    wanted = structure_names(structure)
    chosen = [number for number, name in names.items() if name.strip().lower() in wanted]
    if not chosen:
        return Parts([], [])
    organs = {word for name in wanted for word in _words(name)}
    tumours = {number: _words(name) for number, name in names.items() if _is_tumour_of(name, organs)}
    named = [number for number, words in tumours.items() if words & organs]
    return Parts(sorted({*chosen, *named}), sorted({*tumours} - {*chosen, *named}))


def _is_tumour_of(name: str, organs: Collection[str]) -> bool:
    """Say whether a name is that of a tumour, with no word of another organ than `organs`."""
    words = _words(name)
    tumour = {word for word in words if TUMOUR_NAMES.search(word)}
    return bool(tumour) and words - tumour <= {*organs} | TUMOUR_WORDS


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]{2,}", name.lower()))
