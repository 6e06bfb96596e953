"""Commands that read notebooks begin without the grammar of IRIs.

nbformat imports jsonschema, and that, where it is installed, `rfc3987_syntax`, which builds a
grammar of all IRIs: two thirds of the time in which papermill is imported. What a notebook is
checked against has none. Never in a process that runs code of the user, who may check some.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast


def leave_out_iris() -> None:
    """What is None here is not there for whoever imports it; jsonschema then does without."""
    sys.modules.setdefault("rfc3987_syntax", cast("ModuleType", None))
