"""Logs that replay does not repeat, under the module name the official SDK gives them.

```python
logger = nbdurable.getLogger(__name__)

@greeter.handler()
async def greet(ctx, name):
    logger.info("greeting %s", name)  # Once, however often the handler is replayed.
```

What a handler logs is muted while its code does again what its journal already tells. Steps run
only where the journal has ended, so what they log is never muted.
"""

from __future__ import annotations

import logging

from nbdurable.sdk.context import current_context

__all__ = ["RestateLoggingFilter", "getLogger"]


class RestateLoggingFilter(logging.Filter):
    """Lets nothing through that a handler logs in replay; add it to a logger or to a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Of the thread and task that log: others are not muted with it."""
        if getattr(current_context(), "is_replaying", False):
            return False
        return bool(super().filter(record))


def getLogger(name: str | None = None) -> logging.Logger:  # noqa: N802 - the official SDK's name.
    """Return `logging.getLogger(name)`, with the filter that mutes it in replay."""
    logger = logging.getLogger(name)
    if not any(isinstance(there, RestateLoggingFilter) for there in logger.filters):
        logger.addFilter(RestateLoggingFilter())
    return logger
