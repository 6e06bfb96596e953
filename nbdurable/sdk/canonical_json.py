"""JSON of which equal values are equal bytes, and the sentence for what does not fit into it.

Keys are sorted, spaces left out, text is UTF-8: replay compares the digests of payloads, so it must
not matter in which order a dict was filled or a set is iterated. Models (dataclasses, msgspec
Structs, pydantic models) are written wherever they stand and restored where a type hint names them.

Never imports pydantic: if a user's value is a pydantic model, pydantic is already loaded.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from collections.abc import Awaitable
from typing import Any

import msgspec

from nbdurable.errors import SerializationError

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIX = (
    "Return something JSON (dict, list, str, number, bool, None), a dataclass, a msgspec Struct "
    "or a pydantic model, or pass RunOptions(serde=...)."
)

PATH_STEPS_MAX = 50  # A longer path is no help to a reader; it is a loop or a generated tree.


def write(value: object, *, models: bool = True) -> bytes:
    """Return the canonical bytes of a value; the same for every equal value of the same types.

    Raises:
        SerializationError: Some part is not JSON, nor (unless `models` is False) a model.
    """
    default = _model_to_json if models else _refuse
    try:
        return _dumps(value, default)
    except Exception as error:
        raise _explain(value, default, error) from error


def read(buf: bytes, hint: Any = None) -> Any:
    """Return plain JSON, or what the hint names; None for empty bytes.

    Raises:
        SerializationError: The bytes are not JSON, or do not fit the hint.
    """
    if not buf:
        return None
    try:
        if is_pydantic(hint):
            return hint.model_validate_json(bytes(buf))
        value = json.loads(buf)
        if hint is None:
            return value
        # Through json rather than msgspec.json: NaN and Infinity are JSON here as in Python.
        return msgspec.convert(value, hint, str_keys=True, dec_hook=_model_from_json)
    except Exception as error:
        wanted = "JSON" if hint is None else getattr(hint, "__name__", None) or str(hint)
        raise SerializationError(
            f"cannot be read as {wanted}: {error}",
            root="payload",
            fix="Read it with the type and serde it was written with.",
        ) from error


def mentions_model(hint: object) -> bool:
    """Whether a hint names, anywhere inside, a type that plain JSON does not restore."""
    origin = typing.get_origin(hint) or hint
    if is_struct(origin) or is_pydantic(origin):
        return True
    return any(mentions_model(argument) for argument in typing.get_args(hint))


def is_pydantic(annotation: object) -> bool:
    """Tell a pydantic model class from everything else, without loading pydantic."""
    model = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return model is not None and isinstance(annotation, type) and issubclass(annotation, model)


def is_struct(annotation: object) -> bool:
    """Tell a msgspec Struct or a dataclass, which msgspec reads the same way."""
    return isinstance(annotation, type) and (
        issubclass(annotation, msgspec.Struct) or dataclasses.is_dataclass(annotation)
    )


def type_name(value: object) -> str:
    """Name a value's type the way its author would import it."""
    cls = type(value)
    hidden = cls.__module__ in ("builtins", "__main__")
    return cls.__qualname__ if hidden else f"{cls.__module__}.{cls.__qualname__}"


def _model_from_json(wanted: type, value: object) -> Any:
    if is_pydantic(wanted):
        return wanted.model_validate_json(_dumps(value, _refuse))  # type: ignore[attr-defined] # Pydantic is not a dependency.
    if isinstance(value, wanted):
        # A field may be declared as object, or as a protocol its plain value satisfies.
        return value
    message = f"msgspec cannot make type {wanted.__name__} from JSON"
    raise TypeError(message)


def _dumps(value: object, default: Callable[[Any], Any]) -> bytes:
    options: dict[str, Any] = {
        "sort_keys": True,
        "separators": (",", ":"),
        "default": default,
    }
    try:
        return json.dumps(value, ensure_ascii=False, **options).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate (os.fsdecode of an odd file name) is no UTF-8, but JSON can escape it.
        return json.dumps(value, ensure_ascii=True, **options).encode("utf-8")


def _refuse(value: object) -> Any:
    message = f"{type_name(value)} is not JSON"
    raise TypeError(message)


def _model_to_json(value: Any) -> Any:
    """Called by json for what it does not know: one level of a model, or a refusal."""
    if is_pydantic(type(value)):
        return _order_sets(value.model_dump(mode="json"), value.model_dump())
    if is_struct(type(value)):
        # Fields of a model may be dates, UUIDs or sets: its type is what reads them back.
        return msgspec.to_builtins(
            value, str_keys=True, order="deterministic", enc_hook=_model_to_json
        )
    return _refuse(value)


def _order_sets(dumped: Any, original: Any) -> Any:
    """Sort what was a set: its iteration order changes with every process."""
    if isinstance(original, (set, frozenset)) and isinstance(dumped, list):
        return sorted(dumped, key=lambda item: _dumps(item, _refuse))
    if isinstance(original, dict) and isinstance(dumped, dict):
        if len(original) == len(dumped):
            return {
                key: _order_sets(item, original_item)
                for (key, item), original_item in zip(
                    dumped.items(), original.values(), strict=True
                )
            }
    elif (
        isinstance(original, (list, tuple))
        and isinstance(dumped, list)
        and len(original) == len(dumped)
    ):
        return [_order_sets(*pair) for pair in zip(dumped, original, strict=True)]
    return dumped


def _explain(value: object, default: Callable[[Any], Any], error: Exception) -> SerializationError:
    # Json counts depth by the stack, so another descent would only fail again.
    deep = isinstance(error, RecursionError)
    path, culprit = ("", value) if deep else _culprit(value, default)
    fix = FIX
    if not deep and isinstance(culprit, dict) and culprit:
        problem, fix = _key_problem(culprit), "Make every key a string."
    elif isinstance(culprit, (dict, list, tuple)):
        problem = "contains itself, or is nested too deeply for JSON"
    elif isinstance(culprit, Awaitable):
        problem, fix = "is not a value yet: it has to be awaited", "Write `await` before it."
    elif isinstance(culprit, (str, int, float)):
        # Only its size can be wrong, and json has said how.
        problem = f"cannot be written: {error}"
    else:
        problem = f"is of type {type_name(culprit)}, which JSON cannot hold"
    return SerializationError(problem, path=path, fix=fix)


def _key_problem(value: dict[Any, Any]) -> str:
    for key in value:
        if key is not None and not isinstance(key, (str, int, float)):
            return f"has the key {key!r} of type {type_name(key)}, but JSON's keys are strings"
    kinds = sorted({type_name(key) for key in value})
    if len(kinds) == 1:
        return "contains itself, or keys that cannot be sorted"
    return f"mixes keys of type {' and '.join(kinds)}, which cannot be sorted"


def _culprit(value: object, default: Callable[[Any], Any]) -> tuple[str, object]:
    """Descend to the innermost part that cannot be written; slow, and only on the way to fail."""
    path, in_model, above = "", False, {id(value)}
    for _ in range(PATH_STEPS_MAX):
        for step, child, is_field in _parts(value, default):
            if not _writes(child, default, in_model=in_model or is_field):
                path, value, in_model = path + step, child, in_model or is_field
                break
        else:
            break
        if id(value) in above:
            break
        above.add(id(value))
    return path, value


def _writes(value: object, default: Callable[[Any], Any], *, in_model: bool) -> bool:
    try:
        if in_model:
            # A date or a set is fine inside a model, whose type reads it back.
            value = msgspec.to_builtins(
                value, str_keys=True, order="deterministic", enc_hook=_model_to_json
            )
        _dumps(value, default)
    except Exception:  # noqa: BLE001 - border: the value is anybody's, and whatever it raises, it cannot be written.
        return False
    return True


def _parts(value: Any, default: Callable[[Any], Any]) -> Iterator[tuple[str, object, bool]]:
    """Yield (path step, part, whether it is a field of a model)."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{json.dumps(key) if isinstance(key, str) else repr(key)}]", item, False
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"[{index}]", item, False
    elif default is _model_to_json and (is_struct(type(value)) or is_pydantic(type(value))):
        for name in _field_names(type(value)):
            yield f".{name}", getattr(value, name, None), True


def _field_names(model: Any) -> Iterator[str]:
    for attribute in ("__struct_fields__", "__dataclass_fields__", "model_fields"):
        if hasattr(model, attribute):
            yield from getattr(model, attribute)
            return
