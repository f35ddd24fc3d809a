"""Page tokens: where a list goes on. A token holds no state of the server, so any replica may go on with it."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from saerec_server.validation import Checker

NOT_OF_THIS_LIST = (
    "must be the next_page_token of the same call with the same fields; begin again without one"
)


def next_token(listed: str, last: str) -> str:
    """The token that goes on after the entry `last` of what `listed` tells: all that says what is in the list."""
    parts = json.dumps([_digest(listed), last])
    return base64.urlsafe_b64encode(parts.encode()).decode()


def entry_before(check: Checker, token: str, listed: str) -> str:
    """The last entry of the page that gave the token; empty without a token. Notes a violation for any other token."""
    if not token:
        return ""
    try:
        parts = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        parts = None
    match parts:
        case [str() as digest, str() as last] if digest == _digest(listed) and last:
            return last
    check.add("page_token", NOT_OF_THIS_LIST)
    return ""


def number_before(check: Checker, token: str, listed: str) -> int | None:
    """As entry_before, for entries that are numbers from 0 on; None without a token."""
    last = entry_before(check, token, listed)
    if not last or re.fullmatch(r"[0-9]{1,18}", last):
        return int(last) if last else None
    check.add("page_token", NOT_OF_THIS_LIST)
    return None


def _digest(listed: str) -> str:
    return hashlib.sha256(listed.encode()).hexdigest()[:16]
