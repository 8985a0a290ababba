"""Laws of reading ahead: order and errors are those of a plain loop, and the next item is loaded meanwhile."""

import threading

import pytest
from conftest import HANGS
from hypothesis import given
from hypothesis import strategies as st
from slicesampling.learning.prefetch import read_ahead


@given(st.lists(st.integers()), st.integers(1, 3))
def test_it_is_a_plain_loop(items: list[int], ahead: int) -> None:
    assert list(read_ahead(iter(items), str, ahead=ahead)) == [(item, str(item)) for item in items]


@pytest.mark.parametrize("ahead", [1, 2])
def test_the_next_items_are_loaded_while_one_is_worked_on(ahead: int) -> None:
    loaded = {item: threading.Event() for item in range(6)}

    for item, _ in read_ahead(range(6), lambda item: loaded[item].set(), ahead=ahead):
        assert all(loaded[following].wait(timeout=HANGS) for following in range(item, min(item + ahead + 1, 6)))
        assert not any(loaded[later].is_set() for later in range(item + ahead + 1, 6))


def test_as_many_are_loaded_at_a_time() -> None:
    together = threading.Barrier(2)
    loop = read_ahead(range(4), lambda item: together.wait(timeout=HANGS), ahead=2)
    assert sorted(place for _, place in loop) == [0, 0, 1, 1]


def test_an_error_comes_when_its_item_is_due() -> None:
    loop = read_ahead([2, 1, 0, 4], lambda item: 1 / item)
    assert [next(loop), next(loop)] == [(2, 0.5), (1, 1.0)]
    with pytest.raises(ZeroDivisionError):
        next(loop)
