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

import json
import logging

from nbdurable.sdk.context import current_context

__all__ = ["JsonLogFormatter", "RestateLoggingFilter", "getLogger"]


# What the engine adds to the records that are about an invocation.
_SAID = ("invocation_id", "target")


class RestateLoggingFilter(logging.Filter):
    """Lets nothing through that a handler logs in replay; add it to a logger or to a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Of the thread and task that log: others are not muted with it."""
        if getattr(current_context(), "is_replaying", False):
            return False
        return bool(super().filter(record))


class JsonLogFormatter(logging.Formatter):
    """One JSON object a line, with the invocation that logs: for whoever collects logs.

    ```python
    handler = logging.StreamHandler()
    handler.setFormatter(nbdurable.JsonLogFormatter())
    logging.getLogger().addHandler(handler)
    ```

    `invocation_id` is there for what a handler logs, and for what the engine says of one; `target`
    for the latter only. A handler of the standard library's that passes records to another thread
    loses who has logged them.
    """

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{record.msecs:03.0f}",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        context = current_context()
        if context is not None:
            told["invocation_id"] = context.request().id
        # What the engine says of an invocation, it says outside of it.
        told |= {name: getattr(record, name) for name in _SAID if hasattr(record, name)}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def getLogger(name: str | None = None) -> logging.Logger:  # noqa: N802 - the official SDK's name.
    """Return `logging.getLogger(name)`, with the filter that mutes it in replay."""
    logger = logging.getLogger(name)
    if not any(isinstance(there, RestateLoggingFilter) for there in logger.filters):
        logger.addFilter(RestateLoggingFilter())
    return logger
