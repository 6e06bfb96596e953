"""How the call that began a run is made with curl: to try it again, or to show somebody."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import quote

from nbdurable.client.views import InvocationView


def curl_of(view: InvocationView, argument: str, ingress: str, token_file: Path | None) -> str:
    """One line for a shell. A token is read from its file, so that it is in no history.

    Args:
        argument: As `client.entry_text()` gives it; what is no JSON is left to the person.
        ingress: The address of whoever serves the journal.
    """
    target = [view.service, *([] if view.key is None else [view.key]), view.handler]
    scoped = ["restate", "scope", view.scope or "", "send", *target]
    parts = [*target, "send"] if view.scope is None else scoped
    url = "/".join([ingress.rstrip("/"), *(quote(part, safe="") for part in parts)])
    words = ["curl", shlex.quote(url)]
    if token_file is not None:
        words += ["-H", f'"authorization: Bearer $(cat {shlex.quote(str(token_file))})"']
    try:
        body = json.dumps(json.loads(argument), ensure_ascii=False) if argument else ""
    except ValueError:
        # Bytes that are no JSON, or more of it than is shown.
        return " ".join([*words, "--data-binary", "@argument"])
    return " ".join([*words, "--json", shlex.quote(body)] if body else [*words, "-X", "POST"])
