"""Values of any type that a link carries: right in form, and mostly wrong in what they say."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from nbdurable.core.attempt import ref_of
from nbdurable.core.values import PayloadRef

# Small ones mean something: entries, attempts, completions. The others are what nobody checks for.
INTEGERS: Final = st.integers(-2, 5) | st.sampled_from([2**31, 2**63 - 1, -(2**63)])
ITEMS_MAX: Final = 3
# Trees of futures hold themselves.
DEPTH_MAX: Final = 6


@st.composite
def drawn(draw: st.DrawFn, kind: Any, words: list[str], payloads: list[bytes]) -> Any:
    """Of this type. `words` are texts that mean something where they are said."""
    text = st.sampled_from(words) | st.text(max_size=5)
    data = st.sampled_from(payloads) | st.binary(max_size=5)

    def of(info: inspect.Type, depth: int) -> Any:
        match info:
            case inspect.NoneType():
                return None
            case inspect.BoolType():
                return draw(st.booleans())
            case inspect.IntType():
                return draw(INTEGERS)
            case inspect.FloatType():
                return draw(st.floats(allow_nan=False))
            case inspect.StrType():
                return draw(text)
            case inspect.BytesType():
                return draw(data)
            case inspect.LiteralType(values=values):
                return draw(st.sampled_from(list(values)))
            case inspect.AnyType() | inspect.RawType():
                return draw(st.none() | st.booleans() | INTEGERS | text)
            case inspect.VarTupleType(item_type=item):
                return tuple(several(item, depth))
            case inspect.ListType(item_type=item):
                return several(item, depth)
            case inspect.DictType(key_type=key, value_type=value):
                keys = several(key, depth)
                return {one: of(value, depth) for one in keys}
            case inspect.UnionType(types=types):
                plain = [one for one in types if not isinstance(one, inspect.StructType)]
                chosen = plain if depth <= 0 and plain else list(types)
                return of(draw(st.sampled_from(chosen)), depth)
            case inspect.StructType(cls=struct) if struct is PayloadRef:
                # Of what may stand beside it, so that some of them are right.
                return ref_of(draw(data))
            case inspect.StructType(cls=struct):
                return struct(**dict(fields_of(struct, depth - 1)))
            case _:
                raise NotImplementedError(info)

    def several(item: inspect.Type, depth: int) -> list[Any]:
        count = draw(st.integers(0, ITEMS_MAX if depth > 0 else 0))
        return [of(item, depth) for _ in range(count)]

    def fields_of(struct: type[msgspec.Struct], depth: int) -> Any:
        info = inspect.type_info(struct)
        assert isinstance(info, inspect.StructType)
        for field in info.fields:
            if field.required or (depth > 0 and draw(st.booleans())):
                yield field.name, of(field.type, depth)

    return of(inspect.type_info(kind), DEPTH_MAX)
