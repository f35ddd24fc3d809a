"""What a catalogue names and what it continues, kept beside it, so that the next dictionary can carry on its ids.

A dictionary stage replaces its folder when it trains again. So the stage of intents keeps the latents that its
catalogue names in its own folder, and below that the catalogue it continues, with its latents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from saerec_ray.dictionary.attributes import parse_attributes
from saerec_ray.errors import StageError
from saerec_ray.intents.catalogue import CATALOGUE_FILE, Catalogue, Intent, read_catalogue, write_catalogue
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.identity import Latents, NamedLatents
from saerec_ray.intents.listing import listed
from saerec_ray.intents.policy import POLICY_VERDICT

LATENTS_FILE = "latents.safetensors"
BEFORE_FOLDER = "before"
"""Inside a folder of intents: the catalogue whose ids it carries on."""
LINEAGE_FILES = (CATALOGUE_FILE, LATENTS_FILE)


def write_latents(latents: Latents, folder: Path) -> None:
    """Writes the latents that the catalogue in `folder` names."""
    codes = latents.codes
    save_file(
        {
            "decoder": np.ascontiguousarray(latents.decoder, dtype=np.float32),
            "offsets": codes.indptr.astype(np.int64),
            "latents": codes.indices.astype(np.int32),
            "values": codes.data.astype(np.float32),
            "width": np.array([codes.shape[1]], dtype=np.int64),
            "items": np.frombuffer(bytes.fromhex("".join(latents.items)), dtype=np.uint8),
            "attributes": np.frombuffer(json.dumps(latents.values).encode(), dtype=np.uint8),
        },
        folder / LATENTS_FILE,
    )


def read_named_latents(folder: Path) -> NamedLatents:
    """Reads a catalogue and the latents it names. Raises StageError when one of the files is missing or damaged."""
    path = folder / LATENTS_FILE
    catalogue = read_catalogue(folder)
    try:
        arrays = load_file(path)
        shape = len(arrays["offsets"]) - 1, int(arrays["width"][0])
        keys = arrays["items"].reshape(shape[0], -1)
        latents = NamedLatents(
            catalogue=catalogue,
            decoder=arrays["decoder"],
            codes=csr_array((arrays["values"], arrays["latents"], arrays["offsets"]), shape=shape),
            items=[row.tobytes().hex() for row in keys],
            values=parse_attributes(arrays["attributes"].tobytes().decode()),
        )
    except (OSError, SafetensorError, KeyError, IndexError, ValueError, TypeError) as error:
        raise StageError(f"{path} cannot be read: {error}.") from error
    if len(catalogue.intents) != shape[1]:
        raise StageError(f"{path} has {shape[1]} latents, the catalogue beside it {len(catalogue.intents)}.")
    return latents


def keep_before(before: NamedLatents, folder: Path) -> None:
    """Keeps, in a folder of intents, what its catalogue continues."""
    target = folder / BEFORE_FOLDER
    target.mkdir(exist_ok=True)
    write_catalogue(before.catalogue, target)
    write_latents(before, target)


def lineage_files(files: Mapping[str, str], folder: str = "") -> dict[str, str] | None:
    """Of the hashed files of a stage, those to carry ids on from, by name; None when they are not all there."""
    names = [f"{folder}/{name}" if folder else name for name in LINEAGE_FILES]
    return {name: files[name] for name in names} if all(name in files for name in names) else None


def from_elsewhere(latents: NamedLatents) -> NamedLatents:
    """The same, with all that people decided there marked as inherited: the overlay of another run is not at hand."""
    intents = [
        intent.model_copy(update={"inherited_edit": _decided(intent)}) for intent in latents.catalogue.intents
    ]
    catalogue = latents.catalogue.model_copy(update={"intents": intents})
    return replace(latents, catalogue=catalogue)


def _decided(intent: Intent) -> Edit | None:
    """What people decided of an intent; a catalogue may say so by its label and its state alone."""
    if intent.edit is not None:
        return intent.edit
    fields: dict[str, object] = {}
    if intent.label_source == "human":
        fields["label"] = intent.label
    if intent.state == "blocked" and not intent.verdict.startswith(POLICY_VERDICT):
        fields["state"] = "blocked"
    return Edit.model_validate(fields) if fields else None


def shown_again_sentence(before: Catalogue, after: Catalogue) -> list[str]:
    """What people have to know where a policy kept intents from them before, and this one lets them see."""
    published = {intent.intent_id for intent in after.intents if intent.published}
    shown = [
        intent.intent_id
        for intent in before.intents
        if intent.state == "blocked"
        and intent.verdict.startswith(POLICY_VERDICT)
        and intent.intent_id in published
    ]
    if not shown:
        return []
    return [
        f"{len(shown)} intent{'s' if len(shown) > 1 else ''} that a policy blocked before may be seen now, because no "
        f"policy of this run blocks them: {listed(shown)}."
    ]
