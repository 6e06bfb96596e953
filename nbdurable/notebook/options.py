"""What may stand after `%%durable_workflow Name`, `%%durable_step name`, `%%durable_run name`."""

# IPython annotates magics in part.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from nbdurable.durations import parse_duration
from nbdurable.notebook.spelling import no_such
from nbdurable.sdk.options import InvocationRetryPolicy

# Names as people write them.
_EXAMPLES: Final = {"%%durable_step": "fit --out model", "%%durable_run": "enrich"}
_OF_RUNS: Final = (
    argument("--retries", type=int, help="How often a failed attempt is tried again; 69."),
    argument("--timeout", help="An attempt without progress for so long is cut off, e.g. 10m."),
    argument("--retention", help="How long finished runs are kept, e.g. 7d."),
)
_ARGUMENTS: Final = (
    argument("name", help="What it is called, and the name the cell binds."),
    argument("--pin", action="store_true", help="Unfinished runs keep the code they have."),
    *_OF_RUNS,
    argument("--private", action="store_true", help="Called by handlers only."),
    argument("--state-retention", help="Of objects: unwritten state is cleared after, e.g. 30d."),
)


@dataclass(frozen=True, slots=True)
class CellOptions:
    name: str
    pin: bool = False
    retries: int | None = None
    timeout: timedelta | None = None
    retention: timedelta | None = None
    private: bool = False
    state_retention: timedelta | None = None

    def of_definition(self) -> dict[str, Any]:
        """As the constructors of definitions take them."""
        given: dict[str, Any] = {}
        if self.private:
            given["ingress_private"] = True
        if self.retries is not None:
            # The first attempt is no retry.
            given["invocation_retry_policy"] = InvocationRetryPolicy(max_attempts=self.retries + 1)
        if self.timeout is not None:
            given["abort_timeout"] = self.timeout
        if self.retention is not None:
            given["journal_retention"] = given["idempotency_retention"] = self.retention
        return given


_STEP_ARGUMENTS: Final = (
    argument("name", help="What the step is called; with the cell's text it names its record."),
    argument("--out", default="", help="The variables it sets, e.g. a,b: these are restored."),
    argument("--key", help="What else it depends on: another key is another record."),
    argument("--fresh", action="store_true", help="Run it even if it is recorded."),
)


@dataclass(frozen=True, slots=True)
class StepOptions:
    name: str
    out: tuple[str, ...] = ()
    key: str | None = None
    fresh: bool = False


_RUN_ARGUMENTS: Final = (
    argument("name", help="What the run is called; %%durable ls shows it as NAME/KEY."),
    argument("--key", help="What tells it from other runs of this cell; the notebook's name."),
    argument("--fresh", action="store_true", help="Run it even if it has run."),
    *_OF_RUNS,
)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`of_cell` are those that any cell of handlers has."""

    of_cell: CellOptions
    key: str | None = None
    fresh: bool = False


def words_of(magic: Any, line: str) -> Namespace:  # noqa: ANN401 - whatever IPython makes of a magic.
    """The words of a cell's first line. Raises UsageError, one line that says what to write."""
    parser, name = magic.parser, magic.__name__
    try:
        words: Namespace = parse_argstring(magic, line)
    except ValueError as error:
        raise UsageError(f"{error}: close the quotation mark") from None
    except UsageError as error:
        raise UsageError(mended(str(error), f"%%{name}", parser)) from None
    return words


def mended(problem: str, written: str, parser: ArgumentParser) -> str:
    """What argparse says, with what may have been meant."""
    if problem == "the following arguments are required: name":
        return f"{written} is followed by a name; write: {written} {_EXAMPLES.get(written, 'Name')}"
    before, colon, rest = problem.partition("unrecognized arguments: ")
    if before or not colon:
        return problem
    word = rest.split()[0]
    if word.startswith("-"):
        options = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001 - argparse does not list them.
        return no_such(f"{written} has no option", word.partition("=")[0], options)
    return f"{written} takes no further word {word!r}; what has blanks stands in quotation marks"


def with_run_options(magic: Any) -> Any:  # noqa: ANN401 - whatever IPython makes of a magic.
    """The decorators of the run cell's magic."""
    return _with(_RUN_ARGUMENTS, magic)


def read_run_options(magic: Any, line: str) -> RunOptions:  # noqa: ANN401 - the same.
    """Raises UsageError, one line that says what to write."""
    args = words_of(magic, line)
    return RunOptions(_options_of(args), key=args.key, fresh=args.fresh)


def with_step_options(magic: Any) -> Any:  # noqa: ANN401 - whatever IPython makes of a magic.
    """The decorators of the step cell's magic."""
    return _with(_STEP_ARGUMENTS, magic)


def read_step_options(magic: Any, line: str) -> StepOptions:  # noqa: ANN401 - the same.
    """Raises UsageError, one line that says what to write."""
    args = words_of(magic, line)
    out = tuple(name.strip() for name in args.out.split(",") if name.strip())
    for name in out:
        if not name.isidentifier():
            raise UsageError(f"--out takes names of variables, e.g. --out a,b; {name!r} is none")
    return StepOptions(name=args.name, out=out, key=args.key, fresh=args.fresh)


def with_cell_options(magic: Any) -> Any:  # noqa: ANN401 - whatever IPython makes of a magic.
    """The decorators of a cell magic, so that `%%durable_service?` shows them all."""
    return _with(_ARGUMENTS, magic)


def _with(arguments: Sequence[Any], magic: Any) -> Any:  # noqa: ANN401 - the same.
    for one in reversed(arguments):
        magic = one(magic)
    magic = magic_arguments()(magic)
    # IPython writes the help of a line magic.
    magic.__doc__ = magic.__doc__.replace(f"  %{magic.__name__}", f"  %%{magic.__name__}", 1)
    return magic


def read_options(magic: Any, line: str) -> CellOptions:  # noqa: ANN401 - the same.
    """Raises UsageError, one line that says what to write."""
    args = words_of(magic, line)
    return replace(
        _options_of(args),
        pin=args.pin,
        private=args.private,
        state_retention=_duration("--state-retention", args.state_retention),
    )


def _options_of(args: Namespace) -> CellOptions:
    if args.retries is not None and args.retries < 0:
        raise UsageError("--retries is how often more than once, so 0 or more")
    return CellOptions(
        name=args.name,
        retries=args.retries,
        timeout=_duration("--timeout", args.timeout),
        retention=_duration("--retention", args.retention),
    )


def _duration(option: str, text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        return timedelta(milliseconds=parse_duration(text))
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}; write e.g. {option} 10m") from None
