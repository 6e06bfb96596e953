"""Values that must not be written: they are known by name, and looked for wherever something is.

Owns: a text that saves itself as its name, and the search for values in bytes and in texts. What
is found in an output becomes `secret://NAME`; what is found in a variable or a result is refused.
A value that was compressed, encrypted or taken apart is not found, but for a stream in pieces.
"""

from __future__ import annotations

import base64
import json
import logging
from itertools import groupby
from typing import Any, Self, TypeVar
from urllib.parse import quote

from nbdurable.batch.tombstone import Lost, Tombstone
from nbdurable.errors import NbdurableError
from nbdurable.kernels import steps
from nbdurable.sdk.cells import SECRET_PREFIX

T = TypeVar("T")


class SecretShownError(NbdurableError):
    """A secret would have been written."""


class Secret(str):
    """A value that saves itself as its name, and is looked up again in the next kernel."""

    __slots__ = ("_name",)
    _name: str

    def __new__(cls, name: str, value: str) -> Self:
        made = super().__new__(cls, value)
        made._name = name
        return made

    def __repr__(self) -> str:
        return f"<{SECRET_PREFIX}{self._name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_secret, (self._name,)


def rebuild_secret(name: str) -> object:
    """The secret of this name, as it is now; a tombstone where there is none."""
    here = steps()
    if here is None:
        return Tombstone(Lost(name, "secret", "this kernel belongs to no notebook run"))
    try:
        value: str = here.secret(name)
    except LookupError as error:
        return Tombstone(Lost(name, "secret", str(error)))
    return value


class Secrets:
    """Mutable: the values known so far, in every form in which they are likely to be written."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}
        self._bytes: dict[bytes, str] = {}

    def __repr__(self) -> str:
        return f"<Secrets {', '.join(sorted(set(self._forms.values())))}>"

    def __bool__(self) -> bool:
        return bool(self._forms)

    def know(self, name: str, value: str) -> None:
        for form in forms_of(value):
            self._forms[form] = name
            for encoding in ("utf-8", "utf-16-le", "utf-32-le"):
                self._bytes[form.encode(encoding, "surrogatepass")] = name

    def hide(self, text: str) -> str:
        # The longest first: one may be part of another.
        for form in sorted(self._forms, key=len, reverse=True):
            if form in text:
                text = text.replace(form, SECRET_PREFIX + self._forms[form])
        return text

    def hidden(self, content: T) -> T:
        """The same, in all texts of a nested value."""
        if not self._forms:
            return content
        found: Any = content
        match content:
            case str():
                found = self.hide(content)
            case dict():
                found = type(content)({name: self.hidden(value) for name, value in content.items()})
            case list():
                found = [self.hidden(value) for value in content]
            case _:
                pass
        result: T = found
        return result

    def in_outputs(self, outputs: list[Any]) -> list[Any]:
        """The outputs of a cell without them, also where a stream has one piece by piece."""
        if not self._forms:
            return outputs
        found: list[Any] = []
        for (kind, name), group in groupby(
            outputs, key=lambda output: (output["output_type"], output.get("name"))
        ):
            pieces = list(group)
            if kind == "stream" and name is not None and len(pieces) > 1:
                text = "".join(piece["text"] for piece in pieces)
                if self.hide(text) != "".join(self.hide(piece["text"]) for piece in pieces):
                    pieces[0]["text"] = text
                    pieces = pieces[:1]
            found += pieces
        return self.hidden(found)

    def name_in(self, content: bytes | bytearray | memoryview) -> str | None:
        """Which one is in these bytes."""
        if not self._bytes:
            return None
        searched = content if isinstance(content, bytes | bytearray) else bytes(content)
        return next((name for form, name in self._bytes.items() if form in searched), None)

    def refuse(self, content: bytes | memoryview, what: str) -> None:
        """Raises SecretShownError if one is in there."""
        name = self.name_in(content)
        if name is not None:
            raise SecretShownError(
                f"{what} holds the secret {name}, which must not be written; keep it out of there"
            )

    def filter(self, record: logging.LogRecord) -> bool:
        """As a filter of a logger: each line is written without them."""
        if self._forms:
            record.msg, record.args = self.hide(record.getMessage()), ()
        return True


def forms_of(value: str) -> set[str]:
    """How it looks where texts are quoted or encoded, and quoted once more within JSON."""
    encoded = value.encode("utf-8", "surrogatepass")
    forms = {
        value,
        repr(value)[1:-1],
        quote(value, safe="", errors="replace"),
        base64.b64encode(encoded).decode(),
        base64.urlsafe_b64encode(encoded).decode(),
    }
    for _ in range(2):
        forms |= {
            json.dumps(form, ensure_ascii=is_ascii)[1:-1]
            for form in forms
            for is_ascii in (False, True)
        }
    return forms
