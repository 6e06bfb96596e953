"""What `--app` names: the services of a file or a module."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, TracebackType

import click

from nbdurable.cli.exits import FAILED, Refusal
from nbdurable.deploy.endpoint import App
from nbdurable.sdk.definition import Definition

_LIKE: str = "write e.g. --app flows.py, --app flows.py:services or --app package.flows:app"


def load_services(spec: str) -> App | list[Definition]:
    """The services that `spec` names.

    Args:
        spec: A path or a module, and after a colon the name of a service, a list or an app in it.
            Without one: the module's app if it has one, else every service found in it.

    Raises:
        UsageError: There is no such thing, or it is no service.
    """
    place, attribute = _split(spec)
    module = _loaded(place)
    if attribute is None:
        return _found(module, place)
    try:
        value = getattr(module, attribute)
    except AttributeError:
        raise click.UsageError(f"{place} has no {attribute!r}; {_LIKE}") from None
    return _checked(value, spec)


def _split(spec: str) -> tuple[str, str | None]:
    place, colon, attribute = spec.rpartition(":")
    return (place, attribute) if colon and attribute.isidentifier() else (spec, None)


def _loaded(place: str) -> ModuleType:
    is_file = place.endswith(".py") or "/" in place
    if is_file and not Path(place).is_file():
        raise click.UsageError(f"there is no file {place}; {_LIKE}")
    try:
        return _from_file(Path(place)) if is_file else _from_path(place)
    except Exception as error:  # noqa: BLE001 - border: the module is the user's, and so is what it raises.
        if isinstance(error, ModuleNotFoundError) and error.name == place.partition(".")[0]:
            raise click.UsageError(f"there is no module {place!r} here; {_LIKE}") from None
        shown = traceback.format_exception(error.with_traceback(_users(error.__traceback__)))
        raise Refusal(f"{place} cannot be imported:\n{''.join(shown).rstrip()}", FAILED) from None


def _from_file(file: Path) -> ModuleType:
    spec = spec_from_file_location(file.stem, file.absolute())
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # Its neighbours are importable, as they are for `python FILE`; and itself, for pickles of it.
    sys.path.insert(0, str(file.absolute().parent))
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _from_path(name: str) -> ModuleType:
    # A script has its own folder on the path, which is not where the user is.
    sys.path.insert(0, "")
    return import_module(name)


def _users(trace: TracebackType | None) -> TracebackType | None:
    """From the first frame on that is neither ours nor the import system's."""
    while trace is not None and (
        trace.tb_frame.f_code.co_filename in (__file__, import_module.__code__.co_filename)
        or trace.tb_frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        trace = trace.tb_next
    return trace


def _found(module: ModuleType, place: str) -> App | list[Definition]:
    values = list(vars(module).values())
    app = next((value for value in values if isinstance(value, App)), None)
    if app is not None:
        return app
    # By identity: one that has two names is one.
    services = list(
        {id(value): value for value in values if isinstance(value, Definition)}.values()
    )
    if not services:
        raise click.UsageError(f"{place} defines no Service, VirtualObject or Workflow")
    return services


def _checked(value: object, spec: str) -> App | list[Definition]:
    if isinstance(value, App):
        return value
    services = [value] if isinstance(value, Definition) else value
    if isinstance(services, Iterable):
        listed = list(services)
        if listed and all(isinstance(one, Definition) for one in listed):
            return listed
    raise click.UsageError(f"{spec} is no service, and no list or app of services: {value!r}")
