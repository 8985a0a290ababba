"""Laws of labels: equal ones are one, and values are given to the structures that have none, once."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from slicesampling import STRUCTURE
from slicesampling.domain.labels import Label, StructureLabel

VALUES = st.frozensets(st.integers(1, 9), max_size=4)
STRUCTURES = st.builds(
    StructureLabel,
    structure=st.sampled_from(["liver", "spleen", "kidney"]),
    path=st.sampled_from([Path("a.nii.gz"), Path("b")]),
    values=VALUES,
    touching=VALUES,
)
LABELS = st.builds(
    Label, structures=st.lists(STRUCTURES, max_size=3).map(tuple), ignore=st.none() | st.integers(1, 255)
)


def without_values(label: Label) -> Label:
    return replace(label, structures=tuple(replace(one, values=frozenset()) for one in label.structures))


@given(values=st.lists(st.integers(1, 9)), touching=st.lists(st.integers(1, 9)), ignore=st.none() | st.just(255))
def test_the_order_of_values_and_their_repetition_say_nothing(
    values: list[int], touching: list[int], ignore: int | None
) -> None:
    label = Label.single(Path("mask"), values, touching, ignore)
    again = Label.single(Path("mask"), [*reversed(values), *values], set(touching), ignore)
    assert label == again
    assert len({label, again}) == 1


@given(values=VALUES, touching=VALUES, ignore=st.none() | st.just(255))
def test_a_single_label_is_one_structure_with_what_it_was_given(
    values: frozenset[int], touching: frozenset[int], ignore: int | None
) -> None:
    label = Label.single(Path("mask"), values, touching, ignore)
    (only,) = label.structures
    assert only == StructureLabel(STRUCTURE, Path("mask"), values, touching)
    assert label.ignore == ignore


@given(label=LABELS, values=VALUES, later=VALUES.filter(bool))
def test_values_are_given_once_and_change_nothing_else(
    label: Label, values: frozenset[int], later: frozenset[int]
) -> None:
    found = label.with_values(values)
    assert [one.values for one in found.structures] == [one.values or values for one in label.structures]
    assert without_values(found) == without_values(label)
    assert found.with_values(later) == (found if values else label.with_values(later))
