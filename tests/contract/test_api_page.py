"""The Python of the API page runs as it stands there, against a real server, and its limits are the server's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from saerec_server import limits
from saerec_server.health import MAX_WATCHES
from tests.contract.running import Api

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_snippet_of_the_page_runs(api: Api) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert '"localhost:50051"' in snippet
    # The limits of time are for idle machines; one that runs tests is given more.
    patience = (
        "from saerec_ray import _calls as c\nc.RECOMMEND_SECONDS = c.READ_SECONDS = c.WRITE_SECONDS = 20.0\n"
    )
    snippet = patience + snippet.replace('"localhost:50051"', f'"127.0.0.1:{api.port}"')
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5 + 3
    assert all("because of" in line for line in lines[:5])
    assert lines[6].endswith("of the page would stay")
    assert lines[7].startswith("INVALID_ARGUMENT INVALID_FIELD")


def stated() -> dict[str, str]:
    """What the tables of the page's section on limits say, by their first column."""
    section = PAGE.read_text("utf-8").partition("## Limits")[2].partition("## Errors")[0]
    return dict(re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE))


DAY = 86_400
LIMITS = {
    "a request": f"{limits.MAX_REQUEST_BYTES >> 20} MiB",
    "ids of users, items, events, sessions": f"1 to {limits.MAX_ID_BYTES} bytes",
    "`page_size` of `Recommend`": f"{limits.DEFAULT_PAGE_SIZE} by default, above {limits.MAX_PAGE_SIZE} coerced",
    "`history`": f"{limits.MAX_HISTORY} interactions",
    "stored events of a user that are read": (
        f"latest {limits.MAX_HISTORY}; items of the latest {limits.MAX_SEEN_EVENTS}"
    ),
    "`allow_item_ids`, `deny_item_ids`": f"{limits.MAX_LISTED_ITEM_IDS} each",
    "filter conditions, values of each": f"{limits.MAX_CONDITIONS}, {limits.MAX_CONDITION_VALUES}",
    "adjustments in a request, in a profile": f"{limits.MAX_INLINE_ADJUSTMENTS}, {limits.MAX_STORED_ADJUSTMENTS}",
    "`ttl`": f"{limits.MIN_TTL_SECONDS // 60} minute to {limits.MAX_TTL_SECONDS // DAY} days",
    "`reason` of a steering write": f"{limits.MAX_REASON_BYTES} bytes",
    "steering writes for one user": (
        f"{limits.STEERING_WRITES_PER_MINUTE} a minute, {limits.STEERING_WRITES_PER_DAY} a day"
    ),
    "`max_intents`, `max_evidence` of `ExplainUser`": (
        f"{limits.DEFAULT_USER_INTENTS} by default, at most {limits.MAX_USER_INTENTS}; "
        f"{limits.DEFAULT_EVIDENCE} by default, at most {limits.MAX_EVIDENCE}"
    ),
    "`page_size` of `ListIntents`, of `SearchIntents`": (
        f"{limits.DEFAULT_INTENTS} by default, at most {limits.MAX_INTENTS}; "
        f"{limits.DEFAULT_MATCHES} by default, at most {limits.MAX_MATCHES}"
    ),
    "`max_top_items` of `GetIntent`": f"{limits.DEFAULT_TOP_ITEMS} by default, at most {limits.MAX_TOP_ITEMS}",
    "`page_size` of `ListSteeringRevisions`": f"{limits.DEFAULT_REVISIONS} by default, at most {limits.MAX_REVISIONS}",
    "`SearchIntents` text, example items": (
        f"{limits.MAX_SEARCH_CHARACTERS} characters, {limits.MAX_EXAMPLE_ITEMS} items"
    ),
    "events in a batch": (
        f"{limits.MAX_EVENTS}, {limits.MAX_EVENTS_BYTES >> 10} KiB in all; times from "
        f"{limits.MAX_EVENT_AGE_SECONDS // DAY} days back to {limits.MAX_EVENT_AHEAD_SECONDS // 60} minutes ahead"
    ),
    "`impression_item_ids` of an event": f"{limits.MAX_IMPRESSIONS}",
    "repeated `event_id`": f"within {limits.EVENT_ID_SECONDS // DAY} days",
    "health watches at once": f"{MAX_WATCHES}",
    "ids of events, answers to a `request_id`": (
        f"{limits.EVENT_ID_SECONDS // DAY} days, {limits.REQUEST_ID_SECONDS // 3600} hours"
    ),
    "revisions of steering": f"{limits.REVISION_SECONDS // DAY} days",
}


@pytest.mark.parametrize("what", LIMITS)
def test_the_limits_of_the_page_are_those_of_the_server(what: str) -> None:
    assert LIMITS[what] in stated()[what]
