"""Training on a large catalogue: speed and memory of every part, against the full softmax in the same run.

    python tests/bench/bench_large_catalogue.py                      # 1 million items, 10 million interactions
    python tests/bench/bench_large_catalogue.py --items 200000 --users 200000 --steps 50

One thread, d = 64, 2 layers, 2 heads, batches of 256, 4,096 latents, 16 active an item, random interactions with the
popularity of a Zipf law. `sampled` is what `saerec train` does above train.full_softmax_items: the loop, the optimisers
and the sampler of the product. A user's history has 7 prefixes to learn from. Before it the companions of all items are
counted and new items put among them by random text vectors, after it held-out items are ranked and the weights of prior
and companions chosen, as in a whole training.
`full softmax` computes all logits; its batches are smaller, so that they fit. Peak memory: of the process so far.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np
import torch
from scipy.sparse import csr_array

from saerec_ray.attempts import begin_attempt
from saerec_ray.backbone.companions import count_companions
from saerec_ray.backbone.companions_by_text import with_new_items
from saerec_ray.backbone.frozen import Frozen
from saerec_ray.backbone.new_items import new_items
from saerec_ray.backbone.part_weights import choose_companion_weight, choose_prior_weight
from saerec_ray.backbone.trainer import BackboneTraining, together, trained_parts
from saerec_ray.backbone.validation import encode_users
from saerec_ray.config import TrainConfig
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.local_workers import LocalWorker, latest_checkpoint
from saerec_ray.scoring import PriorTable
from tests.bench.published import Transcript, add_page_option, described, publish

LATENTS, ACTIVE, TEXT, LENGTH = 4096, 16, 384, 10
PREFIXES = LENGTH - 3
"""Of a history whose last two items are held out: the first item has nothing before it."""
COMPANIONS = 50
"""As many an item as the amazon preset counts."""
FULL_BATCH = 16


def large_set(users: int, items: int, seed: int = 1) -> PreparedSequences:
    """Random histories of 10 items each; the last two are held out."""
    rng = np.random.default_rng(seed)
    ranks = np.minimum(rng.zipf(1.2, size=users * LENGTH) - 1, 10**9) % items
    return PreparedSequences(
        user_ids=[str(user) for user in range(users)],
        items=rng.permutation(items)[ranks].astype(np.int32),
        times=None,
        offsets=np.arange(users + 1, dtype=np.int64) * LENGTH,
        train_lengths=np.full(users, LENGTH - 2, dtype=np.int32),
        validation_lengths=np.full(users, LENGTH - 1, dtype=np.int32),
    )


def large_frozen(sequences: PreparedSequences, items: int, seed: int = 2) -> Frozen:
    """Random codes of 16 latents an item and what belongs to them."""
    rng = np.random.default_rng(seed)
    latents = np.sort(rng.integers(LATENTS, size=(items, ACTIVE)), axis=1)
    codes = csr_array(
        (
            rng.gamma(2.0, 0.3, size=items * ACTIVE).astype(np.float32),
            latents.ravel().astype(np.int32),
            np.arange(items + 1, dtype=np.int64) * ACTIVE,
        ),
        shape=(items, LATENTS),
    )
    codes.sum_duplicates()
    decoder = rng.normal(size=(LATENTS, TEXT)).astype(np.float32)
    counts = np.bincount(sequences.train_interactions()[1], minlength=items)
    ones = np.ones(LATENTS, dtype=np.float32)
    return Frozen(
        codes=codes,
        decoder=decoder / np.linalg.norm(decoder, axis=1, keepdims=True),
        prior=PriorTable(ones, ones / np.sqrt(LATENTS), 0.1),
        popularity=np.log1p(counts).astype(np.float32),
        companions=csr_array((items, items), dtype=np.float32),
    )


def measured(training: BackboneTraining, batch_size: int, steps: int) -> tuple[float, float]:
    """Prefixes a second and the last loss over so many steps, after three to warm up."""
    batches = list(islice(training.samples.epoch(batch_size, 1, 0), steps + 3))
    for batch in batches[:3]:
        training.step(batch, 1.0)
        training.samples_done += len(batch)
    started = time.perf_counter()
    for batch in batches[3:]:
        loss = training.step(batch, 1.0)
        training.samples_done += len(batch)
    return batch_size * steps / (time.perf_counter() - started), float(loss.detach())


def peak_gib() -> float:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ranked(training: BackboneTraining) -> tuple[float, int]:
    """Seconds to rank held-out items and to choose both weights on them, and how many users that took in all."""
    started = time.perf_counter()
    training.validate()
    assert training.best is not None
    space, encoder = trained_parts(together([training.best]), training.config, training.frozen)
    users = encode_users(encoder, training.cases)
    _, priors = choose_prior_weight(training.config, space, training.frozen, users)
    counted = users.without_companions_among(new_items(space.popularity))
    _, _, companions = choose_companion_weight(training.config, space, training.frozen, counted)
    seconds = time.perf_counter() - started
    return seconds, len(users.cases) * (1 + len(priors) + len(companions))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--full-steps", type=int, default=3)
    add_page_option(parser)
    asked = parser.parse_args()
    say = Transcript()
    torch.set_num_threads(1)
    sequences = large_set(asked.users, asked.items)
    frozen = large_frozen(sequences, asked.items)
    say(f"{asked.items:,} items, {asked.users:,} users, {len(sequences.items):,} interactions")
    started = time.perf_counter()
    companions = count_companions(sequences, asked.items, COMPANIONS)
    frozen = replace(frozen, companions=companions)
    say(
        f"companions: {companions.nnz:,} counted in {time.perf_counter() - started:.0f} s, "
        f"peak memory {peak_gib():.1f} GiB"
    )
    vectors = np.random.default_rng(3).normal(size=(asked.items, TEXT)).astype(np.float32)
    started = time.perf_counter()
    taken = np.bincount(sequences.train_interactions()[1], minlength=asked.items)
    frozen = replace(frozen, companions=with_new_items(companions, vectors, taken, COMPANIONS))
    say(
        f"new items: {(taken == 0).sum():,} put among companions in {time.perf_counter() - started:.0f} s, "
        f"peak memory {peak_gib():.1f} GiB"
    )
    del vectors
    for name, limit, batch_size, steps in (
        ("sampled", 1, 256, asked.steps),
        ("full softmax", asked.items, FULL_BATCH, asked.full_steps),
    ):
        config = TrainConfig(full_softmax_items=limit, batch_size=batch_size, workers=1)
        parameters = {"intents": True, "seed": 1}
        with tempfile.TemporaryDirectory() as folder:
            attempt = begin_attempt(Path(folder), "bench", {}, latest_checkpoint)
            worker = LocalWorker(0, 1, torch.device("cpu"), attempt)
            training = BackboneTraining(worker, config, frozen, sequences, parameters)
            training.model.train()
            speed, _ = measured(training, batch_size, steps)
        hours = len(training.samples) / speed / 3600
        say(
            f"{name}: batches of {batch_size}, {speed:,.0f} prefixes/s, {speed / PREFIXES:,.0f} users/s, "
            f"{hours:.1f} h an epoch, peak memory {peak_gib():.1f} GiB"
        )
        if limit == 1:
            seconds, users = ranked(training)
            say(
                f"ranking and choosing weights: {users:,} times a user ranked among all items in {seconds:.0f} s, "
                f"{users / seconds:,.0f} users/s, peak memory {peak_gib():.1f} GiB"
            )
        del training
    publish(asked.page, "large-catalogues", "Training on a large catalogue", described(__doc__), say.fenced())


if __name__ == "__main__":
    main()
