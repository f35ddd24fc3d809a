"""A store that is opened for some work and closed after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from saerec_server.store import Store

T = TypeVar("T")


def with_store(path: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    """What `work` returns for the store in a file."""

    async def main() -> T:
        store = await Store.open(path, seconds=30.0)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())
