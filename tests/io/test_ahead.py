"""Reading ahead and writing behind: order, errors, and that both really go on side by side."""

import threading

import pytest

from latalign.io.ahead import ahead, behind


@pytest.mark.parametrize("threads", [1, 2])
def test_everything_comes_and_goes_in_order(threads):
    done = []
    with behind(done.append, threads) as add:
        for item in ahead(iter(range(50)), threads):
            add(item)
    assert done == list(range(50))


def test_with_one_thread_nothing_else_runs():
    seen = []
    with behind(lambda _: seen.append(threading.current_thread()), 1) as add:
        add(0)
        assert seen == [threading.current_thread()]


def test_with_two_the_caller_goes_on_meanwhile():
    began, may_end = threading.Event(), threading.Event()

    def slow(_):
        began.set()
        assert may_end.wait(30)

    with behind(slow, 2) as add:
        add(0)
        assert began.wait(30)  # it runs, and this line is reached before it ends
        may_end.set()


def given(items, act, threads, error=None):
    """Give the items one after another, and then fail as a caller may."""
    with behind(act, threads) as add:
        for item in items:
            add(item)
        if error is not None:
            raise error


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_comes_out(threads):
    """At the next item, or at the end; nothing after it is done."""
    done = []

    def act(item):
        if item == 1:
            raise OSError("no space left")
        done.append(item)

    with pytest.raises(OSError, match="no space left"):
        given(range(4), act, threads)
    assert done == [0]
    with pytest.raises(OSError, match="no space left"):
        given([1], act, threads)


def test_what_was_given_is_done_before_an_error_of_the_caller_leaves():
    done, waiting = [], threading.Event()

    def slow(item):
        waiting.wait(0.05)
        done.append(item)

    with pytest.raises(KeyError):
        given([0], slow, 2, KeyError())
    assert done == [0]


def test_of_two_errors_that_of_the_caller_comes_out():
    def fail(_):
        raise OSError("behind")

    with pytest.raises(KeyError):
        given([0], fail, 2, KeyError())
