"""How many intents keep their id, or name a successor, when a dictionary is trained again with another seed.

    python tests/bench/identity.py --data FOLDER/amazon2014_beauty --seeds 42 43 44 45 46 47
    python tests/bench/identity.py out/seed-1/dictionary out/seed-2/dictionary ...

With --data one dictionary a seed is trained with the amazon preset and without attributes, whose ids never change.
Otherwise each folder is a finished dictionary stage on the same items. Ids are carried from each to the next. A
latent counts as published when it fires on at least 10 items and at most a fifth of them. The control gives every
item the codes of another and turns the directions at random: what it finds is chance.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import read_codes, read_dictionary
from saerec_ray.intents.catalogue import Catalogue, Intent, stable_ids
from saerec_ray.intents.identity import NamedLatents, carry_over, match_latents
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


def read_named(folder: Path) -> NamedLatents:
    """A dictionary whose intents have ids and no names."""
    decoder, codes = read_dictionary(folder).decoder, read_codes(folder)
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
    return NamedLatents(
        decoder=decoder,
        codes=codes,
        items=[str(item) for item in range(items)],
        catalogue=Catalogue(intents_version=str(folder), intents=intents),
    )


def control(latents: NamedLatents) -> NamedLatents:
    """The same sparsity on other items, in other directions."""
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(latents.decoder.shape[1],) * 2))[0]
    return replace(
        latents,
        decoder=(latents.decoder @ rotation).astype(np.float32),
        codes=csr_array(latents.codes[rng.permutation(latents.codes.shape[0])]),
    )


def report(say: Transcript, title: str, old: NamedLatents, new: NamedLatents) -> Catalogue:
    """Says the shares of the densest published intents of `old`, and returns the carried catalogue."""
    matching = match_latents(old, new)
    catalogue = carry_over(old, new, matching)
    published = {each.intent_id for each in catalogue.intents if each.published}
    followed = published | {each.intent_id for each in catalogue.deprecated if each.successors}
    top = sorted(
        (each for each in old.catalogue.intents if each.published), key=lambda each: -each.item_count
    )
    top = top[:TOP]
    kept = np.mean([each.intent_id in published for each in top])
    known = np.mean([each.intent_id in followed for each in top])
    median = np.median([matching.similarity[each.latent].max() for each in top])
    say(
        f"{title}: of {len(top)}, kept {kept:.1%}, kept or with successor {known:.1%}, median best {median:.2f}"
    )
    return catalogue


def trained(data: Path, shared: Path, asked: argparse.Namespace) -> list[Path]:
    """The dictionary stage of each seed, on texts that are encoded once."""
    settings = (f"prepare.source.path={data}", "dictionary.attributes=null", "cluster.engine=local")
    settings += tuple(asked.settings)
    encoded = ("prepare", "embed")
    run_stages(shared, settings, stages=encoded)
    folders = [shared / f"seed-{seed}" for seed in asked.seeds]
    for folder, seed in zip(folders, asked.seeds, strict=True):
        of_seed = (*settings, f"seed={seed}")
        run_stages(folder, of_seed, shared=shared, copied=encoded, stages=("dictionary",))
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
    current = read_named(folders[0])
    report(say, "control", current, control(read_named(folders[-1])))
    for folder in folders[1:]:
        fresh = read_named(folder)
        current = replace(fresh, catalogue=report(say, shown(str(folder)), current, fresh))
    publish(asked.page, "identity", "Ids of intents after another training", described(__doc__), say.fenced())


if __name__ == "__main__":
    main()
