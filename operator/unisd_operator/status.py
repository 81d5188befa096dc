"""`derive_status`: what a run's children mean. Pure; called by `reconcile`, before `plan`."""

from datetime import datetime

from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import Status
from unisd_operator.observed import Observed
from unisd_operator.settings import Settings


def derive_status(run: RunResource, observed: Observed, settings: Settings, now: datetime) -> Status:
    """The status that follows from the one before, the spec and what is seen of the children at `now`."""
    raise NotImplementedError
