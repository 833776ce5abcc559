"""Items made ahead are the same, one ahead at most; errors come where they belong, and no thread is left."""

import threading

import pytest

from spinloom.ahead import ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_the_items_are_the_same_and_the_next_is_made_meanwhile():
    made = [threading.Event() for _ in range(5)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number, threading.current_thread().name

    with ahead(items()) as coming:
        for number in range(4):
            assert next(coming)[0] == number
            assert made[number + 1].wait(30)
            assert number == 3 or not made[number + 2].wait(0.01)  # and no more than that
        name = next(coming)[1]
        assert name != threading.current_thread().name
        assert list(coming) == []
        assert threads() == [name]
    assert not threads()


def test_an_error_is_raised_where_its_item_is_asked_for():
    def items():
        yield 1
        raise ZeroDivisionError("the second")

    with pytest.raises(ZeroDivisionError, match="the second"), ahead(items()) as coming:
        assert next(coming) == 1
        next(coming)
    assert not threads()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_ends_the_block_ends_the_thread(error):
    with pytest.raises(error), ahead(iter(range(10**9))) as coming:
        assert [next(coming), next(coming)] == [0, 1]
        raise error
    assert not threads()


def test_nothing_is_made_that_nobody_asks_for():
    with ahead(iter(range(3))):
        assert not threads()
