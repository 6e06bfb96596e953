"""What is wrong with a notebook before any kernel starts: cells that no Python reads, parameters.

Owns: the sentences. Never runs a cell, never opens a journal. A cell that may fail
(`raises-exception`) may also fail to parse; a notebook for another kernel is not read at all.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbdurable.batch.cells import ALLOWS_ERRORS_TAG, RETRIES_TAG, TIMEOUT_TAG, cells_of

# What the words of papermill's inspection accept. A word that is not here is not checked.
_ACCEPTS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "dict": (dict,),
    "float": (float, int),
    "int": (int,),
    "list": (list, tuple),
    "str": (str,),
}
_LANGUAGE = "python"
# Given by papermill's own flags, and never declared by a notebook.
_BUILTIN_PREFIX = "PAPERMILL_"
_WORD = re.compile(r"\w+")


def syntax_faults(cells: Sequence[Mapping[str, Any]], filename: str) -> list[str]:
    """A sentence for each cell that Python cannot parse, after IPython has read its magics."""
    from IPython.core.inputtransformer2 import TransformerManager

    read = TransformerManager()  # type: ignore[no-untyped-call]  # As IPython has it.
    faults = []
    for cell in cells_of(cells, ""):
        node = cells[cell.index]
        if ALLOWS_ERRORS_TAG in node["metadata"].get("tags", []):
            continue
        try:
            source = read.transform_cell(node["source"])
            compile(source, filename, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except (SyntaxError, ValueError) as error:
            line = (getattr(error, "text", None) or "").strip()
            where = f"line {getattr(error, 'lineno', None) or 1}"
            what = getattr(error, "msg", None) or str(error)
            shown = f": {line}" if line else ""
            faults.append(f"cell {cell.index + 1}, {where}: {what}{shown}")
    return faults


def tag_faults(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each tag with a number that is none."""
    return [
        f"cell {index + 1}: the tag {tag!r} wants a whole number, as in {name}=3"
        for index, cell in enumerate(cells)
        for tag in cell["metadata"].get("tags", [])
        for name, equals, value in [tag.partition("=")]
        if equals and name in (RETRIES_TAG, TIMEOUT_TAG) and not value.isdecimal()
    ]


def parameter_faults(declared: Iterable[Any], given: Mapping[str, object]) -> list[str]:
    """A sentence for each parameter that the notebook does not have, or has of another type.

    Args:
        declared: As papermill infers them; none means that there is nothing to compare with.
    """
    known = {parameter.name: parameter for parameter in declared}
    faults = []
    for name, value in given.items():
        if not known or name.startswith(_BUILTIN_PREFIX):
            continue
        if name not in known:
            hint = did_you_mean(name, known) or f"; it has {', '.join(known)}"
            faults.append(f"the notebook has no parameter {name!r}{hint}")
            continue
        said = str(known[name].inferred_type_name)
        if not _is_of(value, said):
            faults.append(f"parameter {name!r} is {said}, and {value!r} is {type(value).__name__}")
    return faults


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'trees'?`, or nothing when nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def reads_as_here(argv: Sequence[str], language: str) -> bool:
    """Whether the kernel is this very Python: another version may know another syntax."""
    major, minor, *_ = sys.version_info
    # These jupyter_client starts with the Python that runs it.
    here = ("python", f"python{major}", f"python{major}.{minor}", sys.executable)
    return language.lower() == _LANGUAGE and bool(argv) and argv[0] in here


def _is_of(value: object, said: str) -> bool:
    word = _WORD.match(said)
    accepted = _ACCEPTS.get(word[0].lower() if word else "")
    if accepted is None or value is None:
        return True
    # In Python a bool is an int; for a person who writes a parameter it is not.
    return isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))
