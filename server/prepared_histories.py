"""The histories of a finished prepare stage, as events that the state database can take."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from saerec_ray.data.prepared import ITEMS_FILE, SEQUENCES_FILE
from saerec_ray.errors import InputError
from saerec_ray.manifest import MANIFEST_NAME, hash_files, read_manifest
from saerec_server.limits import MAX_EVENT_AHEAD_SECONDS, MAX_HISTORY
from saerec_server.records import StoredEvent
from saerec_server.validation import MICROSECONDS, MIN_TIMESTAMP, identifier_fault

EVENT_TYPE = "import"
LOT_EVENTS = 500
"""Few enough that a write of a call, which waits for the transaction of a lot, is hardly slower."""
_USERS_READ_AT_ONCE = 10_000


@dataclass
class LeftOut:
    """What is not written, and why."""

    users: int = 0
    """Whose ids the API refuses."""
    of_users: int = 0
    """Events of those users."""
    of_items: int = 0
    """Events with items whose ids the API refuses."""
    of_times: int = 0
    """Events at times that the API refuses, however old an event may be."""
    older: int = 0
    """Events before the latest ones that a server reads."""


@dataclass(frozen=True)
class Lot:
    """The events of some users, each user's all together and oldest first."""

    events: list[StoredEvent]
    users_read: int  # up to and with this lot, those that are left out too


class PreparedHistories:
    """Every user's latest events, lot by lot; with validation and test, which are what people did last.

    Where the data have no times, the first event of a user is at the first second of 1970, the next one at the next:
    in order, and before everything that people do from now on.
    """

    def __init__(self, workdir: Path) -> None:
        """Raises InputError when the work directory has no finished prepare stage, or a damaged one."""
        folder = workdir / "prepare"
        if not (folder / MANIFEST_NAME).is_file():
            raise InputError(
                f"{workdir} has no finished prepare stage; run `saerec run` or `saerec prepare` first."
            )
        files, manifest = (ITEMS_FILE, SEQUENCES_FILE), read_manifest(folder)
        try:
            if any(found != manifest.files.get(name) for name, found in hash_files(folder, files).items()):
                raise InputError(f"{folder} is damaged; run the prepare stage again.")
            self._item_ids = pq.read_table(folder / ITEMS_FILE, columns=["item_id"])["item_id"].to_pylist()
            self._file = pq.ParquetFile(folder / SEQUENCES_FILE)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{folder} cannot be read: {error}.") from error
        self._item_fits = np.array([identifier_fault(each) is None for each in self._item_ids], dtype=bool)
        self.users = int(self._file.metadata.num_rows)
        self.timed = True
        """Whether the data have times; known when a lot has been read."""
        self.left_out = LeftOut()
        """Of what has been read so far."""

    def lots(self, now: int) -> Iterator[Lot]:
        """Reads the histories once, from the first on."""
        self.left_out = LeftOut()
        events: list[StoredEvent] = []
        users_read = 0
        for user_id, items, seconds in self._users():
            users_read += 1
            events += self._events(user_id, items, seconds, now // MICROSECONDS)
            if len(events) >= LOT_EVENTS:
                yield Lot(events, users_read)
                events = []
        if events:
            yield Lot(events, users_read)

    def _users(self) -> Iterator[tuple[str, npt.NDArray[np.int32], npt.NDArray[np.int64]]]:
        """Id, items and seconds since 1970 of every user."""
        for batch in self._file.iter_batches(_USERS_READ_AT_ONCE, columns=["user_id", "items", "times"]):
            lengths = batch["items"].value_lengths().to_numpy()
            ends = np.cumsum(lengths, dtype=np.int64)
            items, times = batch["items"].flatten().to_numpy(), batch["times"].flatten()
            self.timed = times.null_count == 0
            for user_id, length, end in zip(batch["user_id"].to_pylist(), lengths, ends, strict=True):
                own = slice(end - length, end)
                yield (
                    user_id,
                    items[own],
                    times[own].to_numpy() if self.timed else np.arange(length, dtype=np.int64),
                )

    def _events(
        self, user_id: str, items: npt.NDArray[np.int32], seconds: npt.NDArray[np.int64], now: int
    ) -> list[StoredEvent]:
        """The latest events of one user that the API would take at any time; the others are counted."""
        if identifier_fault(user_id):
            self.left_out.users += 1
            self.left_out.of_users += len(items)
            return []
        item_fits = self._item_fits[items]
        time_fits = (seconds >= MIN_TIMESTAMP) & (seconds <= now + MAX_EVENT_AHEAD_SECONDS)
        self.left_out.of_items += int((~item_fits).sum())
        self.left_out.of_times += int((item_fits & ~time_fits).sum())
        places = np.flatnonzero(item_fits & time_fits)
        self.left_out.older += max(0, len(places) - MAX_HISTORY)
        latest = places[-MAX_HISTORY:]
        same: Counter[tuple[int, int]] = Counter()
        events = []
        for item, second in zip(items[latest].tolist(), seconds[latest].tolist(), strict=True):
            events.append(_event(user_id, self._item_ids[item], second, same[item, second]))
            same[item, second] += 1
        return events


def _event(user_id: str, item_id: str, second: int, before: int) -> StoredEvent:
    """One event; `before`: how many of the same user, item and second came before it.

    Its id is the same in every run that holds it, also in one on newer data.
    """
    content = "\n".join((user_id, item_id, str(second), str(before)))  # ids have no line breaks
    return StoredEvent(
        event_id=f"import-{hashlib.sha256(content.encode()).hexdigest()[:32]}",
        user_id=user_id,
        item_id=item_id,
        event_type=EVENT_TYPE,
        event_time=second * MICROSECONDS,
        recommendation_id="",
        impressions=(),
        value=None,
        session_id="",
    )
