"""The words after `%durable VERB`: as a shell splits them, but JSON is taken as it stands."""

from __future__ import annotations

import io
import re
import shlex
from typing import Any, Final

from IPython.core.error import UsageError

from nbdurable.notebook.spelling import no_such

COMMENT: Final = "--comment"

# What stands in quotation marks is skipped: JSON may say whatever it likes.
_OPTION: Final = re.compile(
    r"""(?P<quoted>"(?:\\.|[^"\\])*"|'[^']*')"""
    r"""|(?<!\S)(?P<option>--[^\s=]+)(?:=|[ \t]+|$)"""
    r"""(?P<said>"(?:\\.|[^"\\])*"(?!\S)|'[^']*'(?!\S))?"""
)


def words_of(text: str, before_value: int | None = None) -> list[str]:
    """What follows so many words is one value, taken as it stands."""
    lexer = shlex.shlex(io.StringIO(text), posix=True, punctuation_chars="")
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        while before_value is None or len(words) < before_value:
            word = lexer.get_token()
            if word is None:
                return words
            words.append(word)
    except ValueError as error:
        raise UsageError(f"{error}: close the quotation mark") from None
    rest = _rest(lexer).strip()
    return [*words, _unquoted(rest)] if rest else words


def with_comment(verb: str, text: str) -> tuple[str, str]:
    """The text without its `--comment "…"`, which may stand anywhere, and what that says.

    An answer is given once: a comment of several words that lacks its quotation marks must not
    become a reason, or the name of something else.
    """
    for found in _OPTION.finditer(text):
        option, said = found["option"], found["said"]
        if option is None:
            continue
        if option != COMMENT:
            raise UsageError(no_such(f"{verb} has no option", option, [COMMENT]))
        end = found.end()
        if said is None:
            said, end = text[end:].strip(), len(text)
            if not said or re.search(r"""[\s"']""", said):
                example = "it is cheap" if not said or said[0] in "\"'" else said
                raise UsageError(f'a comment stands in quotation marks: {COMMENT} "{example}"')
        rest, more = with_comment(verb, f"{text[: found.start()]} {text[end:]}")
        if more:
            raise UsageError(f"{verb} takes one {COMMENT}")
        return rest, words_of(said)[0] if said[0] in "\"'" else said
    return text, ""


def _rest(lexer: shlex.shlex) -> str:
    stream: Any = lexer.instream
    text: str = stream.read()
    return text


def _unquoted(text: str) -> str:
    """A value may be quoted as for a shell; JSON's own quotation marks are double."""
    is_quoted = len(text) > 1 and text[0] == text[-1] == "'"
    return text[1:-1] if is_quoted else text
