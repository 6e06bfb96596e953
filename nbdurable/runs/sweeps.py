"""Many runs of one notebook: over values of its parameters, or over the days that have passed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from nbdurable.client.base import RestateClientSendHandle
from nbdurable.client.engine import EngineClient
from nbdurable.errors import DefinitionError
from nbdurable.runs.overview import runs_of
from nbdurable.runs.request import KEY_HERE, RunRequest
from nbdurable.runs.sending import send

# One typing error, and a laptop would be busy for a year.
RUNS_MAX: Final = 10_000
# What a person reads of those that all have the same trouble.
KEYS_SHOWN_MAX: Final = 3


class Sent(NamedTuple):
    """`notice`: what whoever has sent them has to know; mostly empty."""

    runs: list[tuple[str, RestateClientSendHandle]]
    notice: str


def of_values(name: str, grid: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Every combination, by a key that is the same for the same values, whenever it is sent.

    Raises:
        DefinitionError: There is none, or there are more than anybody means.
    """
    counts = [len(values) for values in grid.values()]
    total = 1
    for count in counts:
        total *= count
    if not grid or not total:
        raise DefinitionError("a sweep needs a value for each of its parameters")
    if total > RUNS_MAX:
        raise DefinitionError(f"these are {total} runs, and {RUNS_MAX} are the most at once")
    return {
        # Closed, so that none looks like `report.2`, the second run of another.
        f"{name}({_said(values)})": values
        for values in (
            dict(zip(grid, one, strict=True)) for one in itertools.product(*grid.values())
        )
    }


def of_days(name: str, parameter: str, days: int, today: date) -> dict[str, dict[str, Any]]:
    """One run for each of so many whole days, the last of them yesterday."""
    if not 0 < days <= RUNS_MAX:
        raise DefinitionError(f"{days} days cannot be made up for; 1 to {RUNS_MAX} can")
    each = (today - timedelta(days=back) for back in range(days, 0, -1))
    return {f"{name}@{day.isoformat()}": {parameter: day.isoformat()} for day in each}


async def send_all(
    client: EngineClient,
    request: RunRequest,
    runs: Mapping[str, Mapping[str, Any]],
    sweep: str,
    max_parallel: int | None,
) -> Sent:
    """Send each with its own parameters besides those of all; one that was sent before is found.

    Raises:
        DefinitionError: All of them would write the same file.
    """
    if request.output and KEY_HERE not in request.output and len(runs) > 1:
        raise DefinitionError(
            f"{len(runs)} runs would write {request.output}; put {KEY_HERE} into its name"
        )
    each = list(_each(request, runs, sweep, max_parallel))
    sent = [(key, await send(client, key, one)) for key, one in each]
    found = [one for one, (_, handle) in zip(each, sent, strict=True) if handle.existing]
    return Sent(sent, await _begun_otherwise(client, found) if found else "")


async def _begun_otherwise(client: EngineClient, sent: Iterable[tuple[str, RunRequest]]) -> str:
    """What a person has to know of those of them that have a run already, of another request.

    A key has one run, so these keep what they were asked for first. Empty if there are none.
    """
    asked = {run.key: run.request for run in await runs_of(client)}
    keys = [
        key
        for key, request in sent
        if (known := asked.get(key)) is not None
        and (known.notebook, known.parameters) != (request.notebook, _as_kept(request))
    ]
    if not keys:
        return ""
    more = ["…"] if len(keys) > KEYS_SHOWN_MAX else []
    shown = ", ".join([*keys[:KEYS_SHOWN_MAX], *more])
    return (
        f"{len(keys)} of them were sent before with other parameters, or of another notebook, and"
        f" keep to that: {shown}."
        " Under another name they are runs of their own"
    )


def _as_kept(request: RunRequest) -> dict[str, Any]:
    """Its parameters as a journal gives them back."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(request.parameters))
    return found


def _each(
    request: RunRequest,
    runs: Mapping[str, Mapping[str, Any]],
    sweep: str,
    max_parallel: int | None,
) -> Iterator[tuple[str, RunRequest]]:
    for key, parameters in runs.items():
        given = {**request.parameters, **parameters}
        yield (
            key,
            msgspec.structs.replace(
                request, parameters=given, sweep=sweep, max_parallel=max_parallel
            ),
        )


def _said(values: Mapping[str, Any]) -> str:
    return ",".join(
        f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in values.items()
    )
