"""What the command line looks for is what the operator writes: both name it, since neither imports the other."""

from unisd_operator.api import names

from unisd.remote.cluster import GROUP, PLURAL, VERSION


def test_the_command_line_and_the_operator_use_the_same_names():
    assert (GROUP, VERSION, PLURAL) == (names.GROUP, names.VERSION, names.PLURAL)
    labels = (names.RUN_UID, names.ARM, names.ROLE, names.ATTEMPT)
    assert labels == tuple(f"{GROUP}/{name}" for name in ("run-uid", "arm", "role", "attempt"))
