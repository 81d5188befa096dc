"""What a run's children mean: `derive_status`. Pure; called by `reconcile`, before `plan`. Touches nothing.

`derive` puts it together; `stages` and `arms` move shared stages and components from phase to phase; `attempts` says
what follows a failure; `failures`, `waiting` and `deadlines` say what is wrong; `results` reads what pods answered and
left; `summary` tells it in conditions and columns. Phases: docs/operator/design.md; choices: docs/operator/status.md.
"""

from unisd_operator.status.deadlines import due
from unisd_operator.status.derive import derive_status

__all__ = ["derive_status", "due"]
