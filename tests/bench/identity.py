"""How many intents keep their id, or name a successor, when a dictionary is trained again with another seed.

    python tests/bench/identity.py --data FOLDER/amazon2014_beauty --seeds 42 43 44 45 46 47
    python tests/bench/identity.py out/seed-1/dictionary out/seed-2/dictionary ...

With --data one dictionary a seed is trained and named with the amazon preset, without attributes, whose ids never
change. Otherwise each folder is a finished dictionary stage on the same items. Ids are carried from each to the next
by this program alone: what a stage took over from an earlier catalogue is not used. Published is what the intents
stage beside a dictionary published, by all its gates; where none has read that dictionary, a latent counts as
published when it fires on at least 10 items and at most a fifth of them, and the output says so. `kept`: intents of
the old catalogue whose id a published intent of the new one has. `same label`: those of them that are called the same.
The control gives every item the codes of another and turns the directions at random: what it finds is chance.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import Floats, read_codes, read_dictionary
from saerec_ray.intents.catalogue import Catalogue, Intent, read_catalogue, stable_ids
from saerec_ray.intents.identity import NamedLatents, carry_over, match_latents
from saerec_ray.manifest import MANIFEST_NAME, read_manifest
from tests.bench.published import (
    Transcript,
    add_run_options,
    data_folder,
    described,
    publish,
    run_stages,
    shown,
)

TOP = 200
MIN_ITEMS, MAX_DENSITY = 10, 0.2


def read_named(folder: Path) -> tuple[NamedLatents, bool]:
    """The text dictionary in a stage folder with ids of its own, and whether an intents stage named it."""
    decoder = read_dictionary(folder).decoder
    codes = csr_array(read_codes(folder)[:, : len(decoder)])
    found = named_by_stage(folder)
    catalogue = stand_in(decoder, codes) if found is None else found
    named = [
        intent.model_copy(update={"intent_id": intent_id, "parent_id": None})
        for intent, intent_id in zip(catalogue.intents, stable_ids(decoder), strict=False)
    ]
    return NamedLatents(
        decoder=decoder,
        codes=codes,
        items=[str(item) for item in range(codes.shape[0])],
        catalogue=Catalogue(intents_version=str(folder), intents=named),
    ), found is not None


def named_by_stage(folder: Path) -> Catalogue | None:
    """The catalogue beside a dictionary stage; None where there is none, or one of another dictionary."""
    stage = folder.parent / "intents"
    if not (stage / MANIFEST_NAME).is_file():
        return None
    read = read_manifest(stage).inputs.get("dictionary")
    return read_catalogue(stage) if read == read_manifest(folder).content_hash else None


def stand_in(decoder: Floats, codes: csr_array) -> Catalogue:
    """Intents without names, published by how many items they fire on. `codes`: (items, latents)."""
    counts = np.bincount(codes.indices, minlength=len(decoder))
    items = codes.shape[0]
    intents = [
        Intent(
            intent_id=intent_id,
            latent=latent,
            label=f"latent {latent}",
            description="",
            terms=[],
            attribute=None,
            label_source="terms",
            detection_auc=None,
            state="active" if MIN_ITEMS <= counts[latent] <= MAX_DENSITY * items else "unpublished",
            verdict="",
            steerable=True,
            item_count=int(counts[latent]),
            item_density=float(counts[latent] / items),
            user_density=0,
            top_items=[],
        )
        for latent, intent_id in enumerate(stable_ids(decoder))
    ]
    return Catalogue(intents_version="", intents=intents)


def control(latents: NamedLatents) -> NamedLatents:
    """The same sparsity on other items, in other directions."""
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(latents.decoder.shape[1],) * 2))[0]
    return replace(
        latents,
        decoder=(latents.decoder @ rotation).astype(np.float32),
        codes=csr_array(latents.codes[rng.permutation(latents.codes.shape[0])]),
    )


def report(say: Transcript, title: str, old: NamedLatents, new: NamedLatents, *, labels: bool) -> Catalogue:
    """Says the shares of the densest published intents of `old`, and returns the carried catalogue.

    `labels`: whether both have real ones. Ends the program when nothing in `old` is published.
    """
    matching = match_latents(old, new)
    catalogue = carry_over(old, new, matching)
    published = {each.intent_id: each.label for each in catalogue.intents if each.published}
    followed = set(published) | {each.intent_id for each in catalogue.deprecated if each.successors}
    top = sorted(
        (each for each in old.catalogue.intents if each.published), key=lambda each: -each.item_count
    )
    top = top[:TOP]
    if not top:
        sys.exit(f"{old.catalogue.intents_version} has no published intent.")
    kept = [each for each in top if each.intent_id in published]
    known = np.mean([each.intent_id in followed for each in top])
    median = np.median([matching.similarity[each.latent].max() for each in top])
    same = [each.label.casefold() == published[each.intent_id].casefold() for each in kept]
    say(
        f"{title}: of {len(top)}, kept {len(kept) / len(top):.1%}, kept or with successor {known:.1%}, "
        f"median best {median:.2f}"
        + (f", same label {np.mean(same):.1%} of the kept" if labels and same else "")
    )
    return catalogue


def trained(data: Path, shared: Path, asked: argparse.Namespace) -> list[Path]:
    """The dictionary stage of each seed, named by the intents stage beside it, on texts that are encoded once."""
    settings = (f"prepare.source.path={data}", "dictionary.attributes=null", "cluster.engine=local")
    settings += ("intents.carry_ids=false",)
    settings += tuple(asked.settings)
    encoded = ("prepare", "embed")
    run_stages(shared, settings, stages=encoded)
    folders = [shared / f"seed-{seed}" for seed in asked.seeds]
    for folder, seed in zip(folders, asked.seeds, strict=True):
        of_seed = (*settings, f"seed={seed}")
        run_stages(folder, of_seed, shared=shared, copied=encoded, stages=("dictionary", "intents"))
    return [folder / "dictionary" for folder in folders]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dictionaries", type=Path, nargs="*")
    parser.add_argument("--data", type=data_folder, help="train the dictionaries on this set first")
    add_run_options(parser, seeds=range(42, 48))
    asked = parser.parse_args()
    folders, say = asked.dictionaries, Transcript()
    if asked.data is not None:
        folders = trained(asked.data, asked.workdir.absolute() / f"identity-{asked.data.name}", asked)
    if len(folders) < 2:
        parser.error("name at least two dictionaries, or --data and at least two --seeds")
    found = {folder: read_named(folder) for folder in folders}
    if unnamed := [shown(str(folder)) for folder, (_, by_stage) in found.items() if not by_stage]:
        say(f"published by a stand-in, for no intents stage has named it: {', '.join(unnamed)}")
    current, named = found[folders[0]]
    report(say, "control", current, control(found[folders[-1]][0]), labels=False)
    for folder in folders[1:]:
        fresh, by_stage = found[folder]
        title, labels = shown(str(folder)), named and by_stage
        current = replace(fresh, catalogue=report(say, title, current, fresh, labels=labels))
        named = by_stage
    publish(asked.page, "identity", "Ids of intents after another training", described(__doc__), say.fenced())


if __name__ == "__main__":
    main()
