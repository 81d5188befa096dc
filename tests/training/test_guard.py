"""Bounds on the signs of collapse, averaged over a window."""

import pytest

from unisd.config.training import Guard
from unisd.training.guard import GuardWindow

QUIET = {"truncated_share": 0.0, "leak_share": 0.0, "repetition": 0.0, "entropy": 2.0}


@pytest.mark.parametrize(
    ("name", "allowed", "broken"),
    [("truncated_share", 0.9, 0.91), ("leak_share", 0.2, 0.21), ("repetition", 0.6, 0.61), ("entropy", 1.5, 1.49)],
)
def test_a_mean_at_its_bound_is_allowed_and_one_beyond_it_is_told(name, allowed, broken):
    guard = Guard(window=1, min_entropy=1.5)
    assert GuardWindow(guard).add({**QUIET, name: allowed}) == []
    (told,) = GuardWindow(guard).add({**QUIET, name: broken})
    assert told.startswith(f"{name} {broken:.3f} ")


def test_only_a_full_window_is_judged_and_by_its_mean():
    window = GuardWindow(Guard(window=3, max_leak_share=0.4))
    told = [window.add({**QUIET, "leak_share": share}) for share in (1.0, 1.0, 0.0, 0.0)]
    assert [len(broken) for broken in told] == [0, 0, 1, 0]
    assert told[2] == ["leak_share 0.667 is above 0.4 over 3 steps"]


def test_a_resumed_window_goes_on():
    window, resumed = (GuardWindow(Guard(window=2, max_repetition=0.5)) for _ in range(2))
    window.add({"repetition": 0.9, "loss": 1.0})
    resumed.restore(window.state())
    assert resumed.add({"repetition": 0.3}) == ["repetition 0.600 is above 0.5 over 2 steps"]
