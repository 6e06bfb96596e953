"""Every setting: its name, its type, its default and one sentence. What they mean to an engine.

The only room with pydantic-settings.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableError

from nbdurable.core.settings import INACTIVITY_TIMEOUT_MS, RETENTION_MS
from nbdurable.core.values import INVOCATION_RETRY_DEFAULT
from nbdurable.durations import parse_duration, show_duration
from nbdurable.errors import SettingsError
from nbdurable.sdk.options import EngineOptions, InvocationRetryPolicy
from nbdurable.settings.said import (
    HOME,
    JOURNAL_FOLDER,
    NOTEBOOK_PROCESSES,
    PREFIX,
    PYPROJECT,
    TABLE,
    pyproject,
)

NONE: Final = "none"
_PORT_MAX: Final = 65_535


def _duration(value: object) -> object:
    """A text, as everywhere people write durations: of a bare number nobody can say the unit."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        # Not a TypeError, which pydantic would let through as a fault of ours.
        raise ValueError(f"{value!r} has no unit; write e.g. 500ms, 10m, 1d or PT10S")  # noqa: TRY004
    return timedelta(milliseconds=parse_duration(value))


def _duration_or_none(value: object) -> object:
    return None if value in (None, NONE) else _duration(value)


def _number_or_none(value: object) -> object:
    return None if value == NONE else value


def _address(value: object) -> object:
    text = str(value)
    Address.parse(text)
    return text


Duration = Annotated[timedelta, BeforeValidator(_duration)]
DurationOrNone = Annotated[timedelta | None, BeforeValidator(_duration_or_none)]
CountOrNone = Annotated[PositiveInt | None, BeforeValidator(_number_or_none)]
HostPort = Annotated[str, BeforeValidator(_address)]
Concurrency = dict[str, PositiveInt]

_RETENTION: Final = timedelta(milliseconds=RETENTION_MS)
_RETRY: Final = INVOCATION_RETRY_DEFAULT
_ATTEMPTS_MAX: Final = _RETRY.max_attempts or 0
assert _ATTEMPTS_MAX, "a run that is tried for ever would be no default"


class Address(NamedTuple):
    """Where something listens; port 0 is a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        host, _, port = text.rpartition(":")
        if not host or not (port.isascii() and port.isdigit() and int(port) <= _PORT_MAX):
            raise ValueError(f"{text!r} is no address; write HOST:PORT, e.g. 127.0.0.1:8080")
        return cls(host.strip("[]"), int(port))


class Notify(BaseModel):
    """Frozen. Who is told how runs stand, of which events and services; none is of all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str
    on: tuple[Literal["failed", "suspended", "completed", "overdue"], ...] = ("failed", "overdue")
    services: tuple[str, ...] = ()


class Settings(BaseSettings):
    """Frozen. A field `x_y` is NBDURABLE_X_Y in the environment, and `x_y` in pyproject.toml."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        pyproject_toml_table_header=TABLE,
        extra="forbid",
        frozen=True,
    )

    home: Path = Field(Path(JOURNAL_FOLDER), description="the journal's folder")

    retry_initial_interval: Duration = Field(
        timedelta(milliseconds=_RETRY.initial_interval_ms),
        description="wait before the second attempt of a run",
    )
    retry_exponentiation_factor: PositiveFloat = Field(
        _RETRY.factor, description="each wait is the one before times this"
    )
    retry_max_interval: Duration = Field(
        timedelta(milliseconds=_RETRY.max_interval_ms), description="no wait is longer"
    )
    retry_max_attempts: PositiveInt = Field(
        _ATTEMPTS_MAX, description="attempts of a run; the first counts"
    )
    retry_on_max_attempts: Literal["pause", "kill"] = Field(
        _RETRY.on_max_attempts, description="what happens to a run that has used them up"
    )

    inactivity_timeout: Duration = Field(
        timedelta(milliseconds=INACTIVITY_TIMEOUT_MS),
        description="an attempt that only waits is suspended after this long",
    )
    abort_timeout: DurationOrNone = Field(
        None, description="one that shows no progress for this long after that is cut off"
    )
    journal_retention: Duration = Field(
        _RETENTION, description="how long the journal of a finished run is kept"
    )
    workflow_retention: Duration = Field(
        _RETENTION, description="how long a workflow's result, state and promises are"
    )
    idempotency_retention: Duration = Field(
        _RETENTION, description="how long the result of a call with an idempotency key is"
    )
    cleanup_interval: Duration = Field(
        timedelta(hours=1), description="how often what has expired is removed"
    )

    concurrency: CountOrNone = Field(None, description="attempts that run at once, of all services")
    service_concurrency: Concurrency = Field(
        default_factory=dict, description='the same by service: {"Scraper": 2}'
    )
    scope_concurrency: Concurrency = Field(
        default_factory=dict, description='the same by scope or limit key: {"tenant/user42": 1}'
    )

    notify: Notify | None = Field(
        None, description='who is told how runs stand: {"to": "https://…", "on": ["failed"]}'
    )

    notebook_processes: PositiveInt = Field(
        NOTEBOOK_PROCESSES, description="notebook runs that were sent and run at once"
    )

    ingress: HostPort = Field("127.0.0.1:8080", description="where `up` takes calls")
    admin: HostPort = Field("127.0.0.1:9070", description="where `up` takes operations and SQL")
    token_file: Path | None = Field(
        None, description="where the token is; the journal's by default"
    )
    no_token: bool = Field(False, description="`up` lets everybody on this machine in")  # noqa: FBT003 - a default.
    allowed_origins: tuple[str, ...] = Field(
        (), description='pages that may call from a browser: ["http://localhost:8888"]'
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description='names of this machine, besides its addresses: ["lab.example"]'
    )
    body_limit: ByteSize = Field(
        ByteSize(32 * 1024 * 1024), description="a larger request is refused with 413"
    )
    idle_exit: DurationOrNone = Field(
        None, description="`up` ends after this long with nothing to do"
    )
    owner_wait: Duration = Field(
        timedelta(seconds=5),
        description="how long a command waits for the owner of the journal to answer",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes it.
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same.
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _Pyproject(settings_cls)

    def engine_options(self, call: EngineOptions | None = None) -> EngineOptions:
        """What an engine is opened with, where the call says nothing."""
        call = call or EngineOptions()
        asked = call.retry_policy or InvocationRetryPolicy()
        return EngineOptions(
            concurrency=_or(call.concurrency, self.concurrency),
            service_concurrency={**self.service_concurrency, **call.service_concurrency},
            scope_concurrency={**self.scope_concurrency, **call.scope_concurrency},
            retry_policy=InvocationRetryPolicy(
                initial_interval=_or(asked.initial_interval, self.retry_initial_interval),
                exponentiation_factor=_or(
                    asked.exponentiation_factor, self.retry_exponentiation_factor
                ),
                max_interval=_or(asked.max_interval, self.retry_max_interval),
                max_attempts=_or(asked.max_attempts, self.retry_max_attempts),
                on_max_attempts=_or(asked.on_max_attempts, self.retry_on_max_attempts),
            ),
            inactivity_timeout=_or(call.inactivity_timeout, self.inactivity_timeout),
            abort_timeout=_or(call.abort_timeout, self.abort_timeout),
            journal_retention=_or(call.journal_retention, self.journal_retention),
            workflow_retention=_or(call.workflow_retention, self.workflow_retention),
            idempotency_retention=_or(call.idempotency_retention, self.idempotency_retention),
            cleanup_interval=_or(call.cleanup_interval, self.cleanup_interval),
        )


class _Pyproject(PyprojectTomlConfigSettingsSource):
    """The table of the nearest file. Paths in it are relative to the file, not to a notebook."""

    PATHS: ClassVar = ("home", "token_file")

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        # Found by our own rule; where there is none, none is looked for.
        super().__init__(settings_cls, pyproject() or Path(os.devnull))

    def __call__(self) -> dict[str, Any]:
        said = super().__call__()
        folder = _file().parent
        return {
            name: folder / value if name in self.PATHS and isinstance(value, str) else value
            for name, value in said.items()
        }


class Found(NamedTuple):
    """A setting as it holds, and who says so."""

    name: str
    value: str
    source: str
    description: str


def read_settings(command_line: Mapping[str, object] | None = None) -> Settings:
    """What holds here, now.

    Args:
        command_line: By name; None stands for what was not said.

    Raises:
        SettingsError: Somebody says what cannot be; the text says who, and what to write.
    """
    said = _said(command_line)
    try:
        return Settings(**said)
    except ValidationError as error:
        raise SettingsError(_taught(error, said)) from None
    except UnreadableError as error:
        raise SettingsError(
            f"a variable {PREFIX}… is no JSON, which it has to be: {error}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{_file()} cannot be read: {error}") from None


def default_settings(home: Path | None = None) -> Settings:
    """Where what is said cannot be read: the journal that is named, and defaults."""
    named = home or Path(os.environ.get(HOME) or JOURNAL_FOLDER)
    return Settings.model_construct(home=named)


def found_settings(command_line: Mapping[str, object] | None = None) -> list[Found]:
    """Each setting, its value as one would write it, and where it comes from."""
    said = _said(command_line)
    settings = read_settings(said)
    return [
        Found(name, shown(getattr(settings, name)), _source_of(name, said), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def unknown_variables() -> list[str]:
    """Variables that look like ours and are none: misspelled, or of another version."""
    known = {variable(name) for name in Settings.model_fields}
    return sorted(
        name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known
    )


def variable(name: str) -> str:
    return f"{PREFIX}{name}".upper()


def shown(value: object) -> str:
    """As one would write it."""
    match value:
        case None:
            return NONE
        case dict() | tuple():
            return json.dumps(value)
        case timedelta():
            return show_duration(round(value / timedelta(milliseconds=1)))
        case Notify():
            return value.model_dump_json()
        case ByteSize():
            return value.human_readable()
        case _:
            return str(value)


def _said(command_line: Mapping[str, object] | None) -> dict[str, Any]:
    return {name: value for name, value in (command_line or {}).items() if value is not None}


def _source_of(name: str, said: Mapping[str, object]) -> str:
    if name in said:
        return "command line"
    if name in EnvSettingsSource(Settings)():
        return variable(name)
    if name in _Pyproject(Settings)():
        return str(_file())
    return "default"


def _taught(error: ValidationError, said: Mapping[str, object]) -> str:
    """The first problem, as a sentence: who says what, and why it cannot be."""
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return (
            f"{_file()} sets {name!r} in [{'.'.join(TABLE)}], and there is no such setting;"
            " `nbdurable config` shows all there are"
        )
    source = _source_of(name, said)
    where = name if source in ("command line", variable(name)) else f"{name} in {source}"
    where = variable(name) if source == variable(name) else where
    why = problem["msg"].removeprefix("Value error, ")
    return f"{where} is {problem['input']!r}: {why}"


def _file() -> Path:
    return pyproject() or Path(PYPROJECT)


def _or(called: Any, here: Any) -> Any:  # noqa: ANN401 - of any setting's type.
    return here if called is None else called
