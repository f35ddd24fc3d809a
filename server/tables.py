"""The tables of the state database; plain SQL types, so that SQLite and PostgreSQL hold the same.

Times are microseconds since 1970.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 1

metadata = MetaData()

store_info = Table(
    "store_info",
    metadata,
    Column("schema_version", Integer, primary_key=True, autoincrement=False),
    Column("store_id", String(32), nullable=False),
)

events = Table(
    "events",
    metadata,
    # SQLite counts up only columns of its own type INTEGER.
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("user_id", String(256), nullable=False),
    Column("event_id", String(256), nullable=False),
    Column("item_id", String(256), nullable=False),
    Column("event_type", String(256), nullable=False),
    Column("event_time", BigInteger, nullable=False),
    Column("recommendation_id", String(256), nullable=False),
    Column("impressions", Text, nullable=False),  # JSON list of item ids
    Column("value", Float(53)),
    Column("session_id", String(256), nullable=False),
    Index("events_by_user", "user_id", "event_time", "sequence"),
)

event_ids = Table(
    "event_ids",
    metadata,
    Column("event_id", String(256), primary_key=True),
    Column("user_id", String(256), nullable=False, index=True),
    Column("write_time", BigInteger, nullable=False, index=True),
)

profiles = Table(
    "profiles",
    metadata,
    Column("user_id", String(256), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("chain_hash", String(64), nullable=False),
    Column("update_time", BigInteger, nullable=False),
)

adjustments = Table(
    "adjustments",
    metadata,
    Column("user_id", String(256), primary_key=True),
    Column("intent_id", String(68), primary_key=True),
    Column("mode", String(16), nullable=False),
    Column("strength", Float(53), nullable=False),
    Column("expire_time", BigInteger, nullable=False, index=True),
    Column("actor", String(256), nullable=False),
    Column("reason", Text, nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("user_id", String(256), primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("create_time", BigInteger, nullable=False, index=True),
    Column("actor", String(256), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("changes", Text, nullable=False),  # JSON list
    Column("reason", Text, nullable=False),
    Column("request_id", String(36), nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("chain_hash", String(64), nullable=False),
)

replies = Table(
    "replies",
    metadata,
    Column("user_id", String(256), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("reply", LargeBinary, nullable=False),
    Column("create_time", BigInteger, nullable=False, index=True),
)

# What stays of an erased user: that something was erased, never whose.
erasures = Table(
    "erasures",
    metadata,
    Column("chain_hash", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("erase_time", BigInteger, nullable=False),
    UniqueConstraint("chain_hash", "erase_time"),
)
