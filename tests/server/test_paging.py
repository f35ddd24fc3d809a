"""Page tokens go on in the list they came from; anything else is a violation, never an error of the server."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saerec_server.errors import ApiError
from saerec_server.paging import NOT_OF_THIS_LIST, entry_before, next_token, number_before
from saerec_server.validation import Checker


@given(st.text(), st.text(min_size=1))
def test_a_token_gives_back_the_last_entry(listed: str, last: str) -> None:
    check = Checker()
    assert entry_before(check, next_token(listed, last), listed) == last
    check.done()


def test_without_a_token_a_list_begins_at_its_start() -> None:
    check = Checker()
    assert entry_before(check, "", "what") == ""
    assert number_before(check, "", "what") is None
    check.done()


@given(st.text(), st.text(), st.text(min_size=1))
def test_a_token_of_another_list_is_refused(listed: str, other: str, last: str) -> None:
    if listed == other:
        return
    check = Checker()
    assert entry_before(check, next_token(other, last), listed) == ""
    refused(check)


@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_whatever_else_is_sent_is_refused(token: str) -> None:
    check = Checker()
    assert entry_before(check, token, "what") == ""
    refused(check)


@pytest.mark.parametrize("parts", [None, {}, [], ["x"], [1, 2], [[], "x"], ["x", "y", "z"]])
def test_json_of_another_form_is_refused(parts: object) -> None:
    check = Checker()
    entry_before(check, base64.urlsafe_b64encode(json.dumps(parts).encode()).decode(), "what")
    refused(check)


@pytest.mark.parametrize("last", ["-1", "1.5", "x", "²", "9" * 19])
def test_where_entries_are_numbers_only_one_that_a_database_takes_is_taken(last: str) -> None:
    check = Checker()
    assert number_before(check, next_token("what", last), "what") is None
    refused(check)
    assert number_before(Checker(), next_token("what", "17"), "what") == 17


def refused(check: Checker) -> None:
    with pytest.raises(ApiError) as caught:
        check.done()
    assert [(each.field, each.description) for each in caught.value.violations] == [
        ("page_token", NOT_OF_THIS_LIST)
    ]
