"""Laws of reading ahead: order and errors are those of a plain loop, and the next item is loaded meanwhile."""

import threading

import pytest
from conftest import HANGS
from hypothesis import given
from hypothesis import strategies as st
from slicesampling.learning.prefetch import read_ahead


@given(st.lists(st.integers()))
def test_it_is_a_plain_loop(items: list[int]) -> None:
    assert list(read_ahead(iter(items), str)) == [(item, str(item)) for item in items]


def test_the_next_item_is_loaded_while_one_is_worked_on() -> None:
    loaded = {item: threading.Event() for item in range(4)}

    for item, _ in read_ahead(range(4), lambda item: loaded[item].set()):
        assert loaded[min(item + 1, 3)].wait(timeout=HANGS)
        assert not loaded[min(item + 2, 3)].is_set() or item >= 2  # one item ahead, no more


def test_an_error_comes_when_its_item_is_due() -> None:
    loop = read_ahead([2, 1, 0, 4], lambda item: 1 / item)
    assert [next(loop), next(loop)] == [(2, 0.5), (1, 1.0)]
    with pytest.raises(ZeroDivisionError):
        next(loop)
