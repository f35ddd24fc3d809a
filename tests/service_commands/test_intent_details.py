"""`saerec intents show`: the family of an intent, and what to use instead of one that is gone."""

from __future__ import annotations

import io
import re

from rich.console import Console, RenderableType

from saerec_ray.service_tables import intent_details, intent_list
from saerec_ray.v1 import intent_service_pb2
from tests.command_line import Run
from tests.scripted_server import ScriptedServer


def shown(table: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return re.sub(r"\s+", " ", console.file.getvalue())  # type: ignore[attr-defined]


def test_the_broader_intent_is_named_by_its_label() -> None:
    intent = intent_service_pb2.Intent(intent_id="int-00000001", parent_intent_id="int-00000002")
    assert "Part of nail care" in shown(intent_details(intent, "nail care"))
    assert "Part of int-00000002" in shown(intent_details(intent))


def test_an_intent_without_a_broader_one_has_no_such_line() -> None:
    assert "Part of" not in shown(intent_details(intent_service_pb2.Intent(intent_id="int-00000001")))


def test_a_deprecated_intent_says_what_to_use_instead() -> None:
    gone = intent_service_pb2.Intent(
        intent_id="int-00000001",
        state=intent_service_pb2.INTENT_STATE_DEPRECATED,
        successor_intent_ids=["int-00000003", "int-00000004"],
    )
    text = shown(intent_details(gone))
    assert "State deprecated" in text
    assert "Use instead int-00000003, int-00000004" in text


def test_the_kind_is_told_where_it_is_known() -> None:
    known = intent_service_pb2.Intent(
        intent_id="int-00000001",
        state=intent_service_pb2.INTENT_STATE_ACTIVE,
        kind=intent_service_pb2.INTENT_KIND_ITEM_PROPERTY,
    )
    unknown = intent_service_pb2.Intent(intent_id="int-00000002")
    assert "Kind item property" in shown(intent_details(known))
    assert "Kind not known" in shown(intent_details(unknown))
    table = shown(intent_list([known, unknown], 2))
    assert table.count("item property") == 1
    assert "not known" not in table


def test_a_name_by_construction_is_exact_and_not_measured() -> None:
    judged = intent_service_pb2.Intent(intent_id="int-00000001", label_confidence=0.91)
    exact = intent_service_pb2.Intent(
        intent_id="int-00000002",
        label_source=intent_service_pb2.LABEL_SOURCE_ATTRIBUTE,
        label_confidence=1,
    )
    unknown = intent_service_pb2.Intent(intent_id="int-00000003")
    assert [
        re.findall(r"Label AUC (\S+)", shown(intent_details(each)))[0] for each in (judged, exact, unknown)
    ] == [
        "0.91",
        "exact",
        "not",
    ]


def test_an_intent_says_where_it_was_found() -> None:
    found = {
        intent_service_pb2.INTENT_DICTIONARY_TEXT: "Found in texts",
        intent_service_pb2.INTENT_DICTIONARY_COOCCURRENCE: "Found in co-occurrence",
    }
    for dictionary, line in found.items():
        intent = intent_service_pb2.Intent(intent_id="int-00000001", dictionary=dictionary)
        assert line in shown(intent_details(intent))


def test_the_list_says_where_intents_were_found_only_when_they_differ() -> None:
    text = intent_service_pb2.Intent(
        intent_id="int-00000001", dictionary=intent_service_pb2.INTENT_DICTIONARY_TEXT
    )
    second = intent_service_pb2.Intent(
        intent_id="int-00000002", dictionary=intent_service_pb2.INTENT_DICTIONARY_COOCCURRENCE
    )
    assert "Found in" not in shown(intent_list([text], 1))
    both = shown(intent_list([text, second], 2))
    assert "Found in" in both
    assert re.search(r"int-00000001.* texts .*int-00000002.* co-occurrence ", both)


def test_show_asks_the_server_for_the_label_of_the_broader_intent(server: ScriptedServer, run: Run) -> None:
    known = {
        "int-00000001": intent_service_pb2.Intent(
            intent_id="int-00000001", label="lacquer", parent_intent_id="int-00000002"
        ),
        "int-00000002": intent_service_pb2.Intent(intent_id="int-00000002", label="nail care"),
    }
    server.answer(
        "GetIntent",
        lambda request: intent_service_pb2.GetIntentResponse(intent=known[request.intent_id]),
    )
    done = run("intents", "show", "int-00000001")
    assert done.code == 0
    assert "Part of nail care" in done.flat
