"""When a live object holds what was planned."""

from unisd_operator.planning.difference import contains


def test_what_a_live_value_holds() -> None:
    assert contains({"a": 1, "b": 2}, {"a": 1}, exactly=True)
    assert not contains({"a": 1}, {"a": 2}, exactly=True)
    assert contains({}, {"egress": []}, exactly=True), "the API server leaves out what is empty"
    assert not contains([{"p": 1}, {"p": 2}], [{"p": 1}], exactly=True)
    assert contains([{"p": 2}, {"p": 1, "x": 1}], [{"p": 1}], exactly=False)
    assert not contains(None, {"a": 1}, exactly=True)
