"""How writes change a profile, and which adjustments act."""

from __future__ import annotations

from pathlib import Path

import pytest

from saerec_ray.bundle import Bundle
from saerec_ray.scoring import MAX_LIMITED_ADJUSTMENTS, Mode
from saerec_server.errors import ApiError, Reason
from saerec_server.limits import MAX_STORED_ADJUSTMENTS, STEERING_WRITES_PER_DAY
from saerec_server.records import SteeringState
from saerec_server.steering import (
    Change,
    Profile,
    SteeringLimitError,
    StoredChange,
    WriteMode,
    changed,
    overlay,
)
from saerec_server.steering_writes import _check_rate
from tests.synthetic import load_synthetic_bundle

NOW = 1_000_000_000
SECOND = 1_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("steering") / "bundle"
    return load_synthetic_bundle(folder)


def stored(
    intent_id: str, mode: Mode = Mode.SUPPRESS, strength: float = 1.0, end: int = NOW + 1
) -> StoredChange:
    return StoredChange(Change(intent_id, mode, strength), end, "somebody", "")


def profile(*changes: StoredChange) -> Profile:
    return Profile(1, "f" * 64, NOW, changes)


def test_a_profile_holds_64_adjustments_and_not_one_more() -> None:
    names = [f"int-{number:08x}" for number in range(MAX_STORED_ADJUSTMENTS + 1)]
    full = changed(Profile(), WriteMode.MERGE, [stored(name) for name in names[:-1]], [], NOW)
    assert len(full) == MAX_STORED_ADJUSTMENTS
    with pytest.raises(SteeringLimitError, match="at most 64"):
        changed(profile(*full), WriteMode.MERGE, [stored(names[-1])], [], NOW)
    assert len(changed(profile(*full), WriteMode.MERGE, [stored(names[0])], [], NOW)) == 64


def test_expired_adjustments_count_no_more() -> None:
    expired = [stored(f"int-{number:08x}", Mode.BOOST, end=NOW) for number in range(MAX_LIMITED_ADJUSTMENTS)]
    after = changed(profile(*expired), WriteMode.MERGE, [stored("int-ffffffff", Mode.BOOST)], [], NOW)
    assert [each.change.intent_id for each in after] == ["int-ffffffff"]


def test_inline_adjustments_act_first_then_the_strongest_stored_ones(bundle: Bundle) -> None:
    intents = bundle.catalogue.by_id()
    names = [each.intent_id for each in bundle.catalogue.intents if each.published and each.steerable]
    kept = [stored(name, Mode.BOOST, (place + 1) / 10) for place, name in enumerate(names[:4])]
    inline = [Change(name, Mode.AVOID, 0.5) for name in names[4:7]]
    applied = overlay(intents, kept, inline)
    assert [edit.intent for edit in applied.acting] == [
        intents[name].latent for name in (*names[4:7], names[3], names[2])
    ]
    assert applied.skipped == [(names[1], Reason.STEERING_LIMIT), (names[0], Reason.STEERING_LIMIT)]


def test_suppress_and_exclude_do_not_count_against_the_limit(bundle: Bundle) -> None:
    names = [each.intent_id for each in bundle.catalogue.intents if each.published and each.steerable]
    kept = [stored(name, Mode.SUPPRESS if place % 2 else Mode.EXCLUDE) for place, name in enumerate(names)]
    assert overlay(bundle.catalogue.by_id(), kept, []).skipped == []


def test_the_201st_write_of_a_day_waits_for_the_first_to_be_a_day_old() -> None:
    day = 86_400 * SECOND
    now = 3 * day
    times = tuple(now - day + (place + 1) * 400 * SECOND for place in range(STEERING_WRITES_PER_DAY))
    assert len(times) == 200
    _check_rate(SteeringState(Profile(), None, times[1:]), now)
    with pytest.raises(ApiError) as refused:
        _check_rate(SteeringState(Profile(), None, times), now)
    assert refused.value.reason is Reason.RATE_LIMITED
    assert refused.value.retry_after == pytest.approx(400)


def test_writes_that_a_clock_set_back_since_puts_into_the_future_hold_up_nobody() -> None:
    now = 3 * 86_400 * SECOND
    _check_rate(SteeringState(Profile(), None, (now + 3_600 * SECOND,) * STEERING_WRITES_PER_DAY), now)
