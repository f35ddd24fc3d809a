"""How a server process is set up."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

STATE_FILE = "state.sqlite"


class ServerSettings(BaseModel):
    """Settings of one server process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: Path = Field(description="Folder of the bundle to serve")
    cross_domain: tuple[Path, ...] = Field(
        (), description="Folders of `saerec cross-domain`: items of other domains that histories may hold"
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(50051, ge=0, le=65_535, description="Port to listen on; 0 takes a free one")
    state: Path | None = Field(None, description=f"State database; by default {STATE_FILE} beside the bundle")
    reflection: bool = Field(False, description="Answer gRPC reflection, for tools such as grpcurl")
    drain_seconds: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="Between turning unhealthy and refusing calls, when asked to stop",
    )
    threads: int = Field(2, ge=1, le=256, description="Threads that rank")
    max_calls: int = Field(64, ge=1, description="Calls answered at once; more are shed")
    state_seconds: float = Field(
        0.6,
        ge=0.1,
        le=60,
        description="Longest wait of a call for the state database. With the half of it that SQLite may wait for "
        "its lock, callers have an answer within a second",
    )

    @property
    def state_path(self) -> Path:
        """Where the state database is."""
        # resolve() first: the parent of a relative "." is not the folder above it.
        return self.state or self.bundle.resolve().parent / STATE_FILE
