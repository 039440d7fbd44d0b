"""How one copes with a pool that breaks as a whole, as the peers of the suite `crash` do."""

import signal
from concurrent.futures import BrokenExecutor, Future

import pytest

from syncflow.bench.suites.crash import SIBLINGS, _until_all_have_values


class Pool:
    """Breaks once it is told to kill a worker: at once, or when all calls are submitted."""

    def __init__(self, takes, heals=True):
        self.left = takes
        self.heals = heals
        self.broken = False

    def submit(self, fn, argument):
        if self.left == 0:
            raise BrokenExecutor("broken")
        self.left -= 1
        self.broken = self.broken or fn is signal.raise_signal
        future = Future()
        if self.broken:
            future.set_exception(BrokenExecutor("broken"))
        else:
            future.set_result(1 if fn is abs else None)
        return future

    def recover(self):
        if self.heals:
            self.left, self.broken = -1, False


@pytest.mark.parametrize("takes", [1, 4, SIBLINGS + 1])
def test_calls_again_what_has_no_value(takes):
    """The pool may break while calls are still being submitted."""
    assert [1, *[None] * SIBLINGS] == _until_all_have_values(Pool(takes))


def test_gives_up_on_a_pool_that_stays_broken():
    """It is no result that some calls have a value."""
    with pytest.raises(RuntimeError, match="0 of 8 calls have a value"):
        _until_all_have_values(Pool(4, heals=False))
