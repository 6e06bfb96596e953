"""What a handler or a step printed, kept with its journal. Nothing is decided by it, ever.

It is no entry: replay does not see it. Bounded per invocation, because a loop that prints is not
what a journal is for; the last fact that is recorded says that it is the last.
"""

from __future__ import annotations

from typing import Final

from nbdurable.core.draft import Draft
from nbdurable.core.facts import OutputWritten
from nbdurable.core.ids import digest_of
from nbdurable.core.proposals import WriteOutput
from nbdurable.core.state import Invocation
from nbdurable.core.values import PayloadRef

# A long run's log and some figures; what a notebook's own output is usually cut at.
OUTPUT_BYTES_MAX: Final = 4 * 1024 * 1024


def write_output(draft: Draft, inv: Invocation, step: WriteOutput) -> None:
    if inv.output_bytes > OUTPUT_BYTES_MAX:
        return
    value = PayloadRef(bytes=len(step.payload), digest=digest_of(step.payload))
    fact = OutputWritten(
        invocation_id=inv.id,
        attempt=inv.attempt,
        entry_count=inv.entry_count,
        completion_id=step.completion_id,
        stream=step.stream,
        value=value,
        is_last=inv.output_bytes + value.bytes > OUTPUT_BYTES_MAX,
    )
    draft.record(fact, step.payload)
