"""What libraries build on, under the module name the official SDK gives it."""

from __future__ import annotations

from nbdurable.sdk.context import current_context
from nbdurable.sdk.extensions import (
    clear_extension_data,
    contextvar,
    get_extension_data,
    set_extension_data,
)

__all__ = [
    "clear_extension_data",
    "contextvar",
    "current_context",
    "get_extension_data",
    "set_extension_data",
]
