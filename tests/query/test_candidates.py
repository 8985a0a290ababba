"""Laws of candidates: separated local maxima that are not annotated (Fig. 2)."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from slicesampling.query.candidates import mark_candidates, slice_candidates

PROFILES = hnp.arrays(float, st.integers(1, 60), elements=st.integers(0, 20).map(float))


@given(PROFILES, st.integers(1, 9))
def test_candidates_are_separated_local_maxima(profile: np.ndarray, distance: int) -> None:
    candidates = slice_candidates(profile, distance)
    assert (np.diff(candidates) >= distance).all()
    for slice_index in candidates:
        assert 0 < slice_index < len(profile) - 1
        left, right = slice_index, slice_index
        while left > 0 and profile[left - 1] == profile[slice_index]:
            left -= 1
        while right < len(profile) - 1 and profile[right + 1] == profile[slice_index]:
            right += 1
        assert profile[left - 1] < profile[slice_index] > profile[right + 1]


@given(PROFILES)
def test_no_further_candidate_could_be_added(profile: np.ndarray) -> None:
    """Each local maximum that was left out stands too close to one that is at least as uncertain."""
    maxima, chosen = slice_candidates(profile, 1), slice_candidates(profile, 5)
    for slice_index in np.setdiff1d(maxima, chosen):
        near = chosen[np.abs(chosen - slice_index) < 5]
        assert (profile[near] >= profile[slice_index]).any()


@given(PROFILES, st.sets(st.integers(0, 59)))
def test_annotated_slices_are_no_candidates(profile: np.ndarray, annotated: set[int]) -> None:
    expected = [index for index in slice_candidates(profile) if index not in annotated]
    assert slice_candidates(profile, annotated=annotated).tolist() == expected


def test_candidates_are_marked_volume_by_volume_whatever_the_order_of_rows() -> None:
    random = np.random.default_rng(3)
    profiles = {"a": random.random(30), "b": random.random(17)}
    table = pd.concat(
        [pd.DataFrame({"volume": name, "slice": range(len(p)), "score": p}) for name, p in profiles.items()]
    ).sample(frac=1, random_state=1)
    table.index = range(len(table))
    marked = table[mark_candidates(table, "score", 4)]
    for name, profile in profiles.items():
        assert sorted(marked.loc[marked["volume"] == name, "slice"]) == slice_candidates(profile, 4).tolist()
