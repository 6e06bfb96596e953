"""Names of services that are nbdurable's own, where rules ask for them."""

from __future__ import annotations

from typing import Final

# The objects that keep schedules: whoever owns a journal that has any loads their code, and stays.
SCHEDULE_SERVICE: Final = "NbdurableSchedule"
# What calls the handler of a schedule, and waits for how that ends.
FIRE_SERVICE: Final = "NbdurableFire"
# What tells how runs stand.
NOTICE_SERVICE: Final = "NbdurableNotice"
# Their runs are how nbdurable works, and no news to a person as long as they go well.
OWN_SERVICES: Final = frozenset({SCHEDULE_SERVICE, FIRE_SERVICE, NOTICE_SERVICE})
# The workflow whose runs are those of notebooks; each has a process of its own.
NOTEBOOK_SERVICE: Final = "Notebook"
