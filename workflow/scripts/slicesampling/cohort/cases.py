"""The results of importers: volumes with their masks, and the parts of a mask that are the structure."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..domain.labels import Label

TUMOUR_NAMES = re.compile(r"tumou?r|cancer|lesion|metasta", re.IGNORECASE)
"""Labels inside the organ that count as part of it, as the paper counts the tumours of LiTS as liver."""

TUMOUR_WORDS = frozenset(("primary", "secondary", "left", "right", "lobe", "segment", "gtv", "roi", "of", "in", "the"))
"""Words beside them that do not name another organ."""


class Case(NamedTuple):
    """One volume with its label, None if people annotate it; split, patient, site: empty if not given."""

    name: str
    image: Path
    label: Label | None
    split: str = ""
    patient: str = ""
    site: str = ""


class Found(NamedTuple):
    """The result of an importer: cases to use, omissions with their reasons, and decisions, a line each."""

    cases: list[Case]
    left_out: list[str]
    decided: tuple[str, ...] = ()


def numbered(cases: Sequence[Case], first: int = 1) -> list[Case]:
    """Return cases in their order with numbers from `first` instead of the names of volumes and patients.

    All cases of a patient have the same patient number.
    """
    named = dict.fromkeys(case.patient for case in cases if case.patient)
    patients = {patient: k for k, patient in enumerate(named, start=first)}
    return [
        case._replace(name=f"{k:03}", patient=f"patient{patients[case.patient]:03}" if case.patient else "")
        for k, case in enumerate(cases, start=first)
    ]


def structure_names(structure: str) -> set[str]:
    """Return the names of a structure, given as text separated by commas, in lower case."""
    return {name.strip().lower() for name in structure.split(",")}


class Parts(NamedTuple):
    """The numbers of a mask's parts that are the structure, and of tumours that belong to it if they touch it."""

    structure: list[int]
    tumours: list[int]


def chosen_parts(names: Mapping[int, str], structure: str) -> Parts:
    """Return the parts of a mask that are `structure`, by their names; all of several `structure_names` are used.

    A tumour named after the structure is part of it. A tumour without an organ in its name belongs to it if it touches
    it. A tumour of another organ, such as a bladder tumour, does not.
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
    """Return whether a name is that of a tumour, without a word of another organ than `organs`."""
    words = _words(name)
    tumour = {word for word in words if TUMOUR_NAMES.search(word)}
    return bool(tumour) and words - tumour <= {*organs} | TUMOUR_WORDS


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]{2,}", name.lower()))
