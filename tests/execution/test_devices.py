"""Which GPU a component gets: the place it was given counts among the GPUs that the command may use."""

from unisd.execution.devices import device_id, visible_devices


def test_places_count_among_the_gpus_that_may_be_used(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    assert visible_devices() == ("4", "7")
    assert [device_id(place) for place in (0, 1)] == ["4", "7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8c1e,-1")
    assert visible_devices() == ("GPU-8c1e",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == ()
    assert device_id(2) == "2", "a number of devices was given, of which nothing is known"
