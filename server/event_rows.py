"""Events as rows of the state database: which of them it has, and how they are written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from saerec_server import tables
from saerec_server.limits import EVENT_ID_SECONDS
from saerec_server.records import StoredEvent
from saerec_server.validation import MICROSECONDS


async def known_event_ids(connection: AsyncConnection, ids: Sequence[str], now: int) -> set[str]:
    """Which of the ids were written within the time in which an id counts once."""
    table = tables.event_ids
    query = select(table.c.event_id).where(
        table.c.event_id.in_(ids), table.c.write_time > now - EVENT_ID_SECONDS * MICROSECONDS
    )
    return set((await connection.execute(query)).scalars())


async def missing_events(connection: AsyncConnection, given: Sequence[StoredEvent]) -> list[StoredEvent]:
    """Those that the database does not have, whatever their ids: of a user, with an item, in a second.

    Each stored event stands for one of the given ones, however long ago it was written.
    """
    if not given:
        return []
    table, times = tables.events, [each.event_time for each in given]
    query = select(table.c.user_id, table.c.item_id, table.c.event_time).where(
        table.c.user_id.in_({each.user_id for each in given}),
        table.c.event_time >= min(times) // MICROSECONDS * MICROSECONDS,
        table.c.event_time < (max(times) // MICROSECONDS + 1) * MICROSECONDS,
    )
    stored = Counter(
        (row.user_id, row.item_id, row.event_time // MICROSECONDS)
        for row in (await connection.execute(query)).all()
    )
    missing = []
    for each in given:
        happening = each.user_id, each.item_id, each.event_time // MICROSECONDS
        if stored[happening]:
            stored[happening] -= 1
        else:
            missing.append(each)
    return missing


async def insert_events(connection: AsyncConnection, events: Sequence[StoredEvent]) -> None:
    """Writes events in the order given, which is the order of those of one time."""
    if events:
        await connection.execute(insert(tables.events), [_event_row(each) for each in events])


def _event_row(new: StoredEvent) -> dict[str, Any]:
    return {
        "user_id": new.user_id,
        "event_id": new.event_id,
        "item_id": new.item_id,
        "event_type": new.event_type,
        "event_time": new.event_time,
        "recommendation_id": new.recommendation_id,
        "impressions": json.dumps(new.impressions),
        "value": new.value,
        "session_id": new.session_id,
    }
