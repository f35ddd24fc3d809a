"""Seconds an epoch of the sequence encoder takes, against plain SASRec in PyTorch on the same samples.

    python tests/bench/bench_training.py                  # a random set of the size and shape of Amazon Beauty
    SAEREC_DATA=FOLDER python tests/bench/bench_training.py    # and FOLDER/amazon2014_beauty, when it is there

One thread, d = 64, 2 layers, 2 heads, batches of 256, full softmax over the catalogue. `plain` pads every history
to 50 and reads the last place of nn.TransformerEncoder. `plain, whole sequences` learns all places of a sequence in
one pass, as the SASRec paper does; its batches hold as many targets. Both compute in float32. Ours take products with
the catalogue in bfloat16 where the CPU computes with it, but in the row that says otherwise. Steps of all models
alternate; an epoch is their mean times the number of steps.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saerec_ray.backbone.batches import PrefixSamples
from saerec_ray.backbone.encoder import intent_context
from saerec_ray.backbone.model import Backbone
from saerec_ray.config import TrainConfig
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.scoring import PriorTable
from tests.bench.published import Transcript, add_page_option, described, publish, shown_command
from tests.synthetic import synthetic_codes

SETTINGS = TrainConfig(d_model=64, layers=2, heads=2, max_length=50, batch_size=256, dropout=0.5)
USERS, ITEMS, MEAN_LENGTH, LONGEST = 22_363, 12_101, 8.9, 204
INTENTS, TEXT = 512, 384
PROFILED_STEPS, PROFILED_OPERATIONS = 10, 10
Step = Callable[[], Tensor]
"""Draws a batch and returns its loss."""


@dataclass(frozen=True)
class Contender:
    """A model with the steps of its epoch."""

    name: str
    model: nn.Module
    steps: Iterator[Step]
    steps_an_epoch: int


def beauty_like(seed: int = 1) -> tuple[PreparedSequences, int]:
    """Random sequences of at least 5 items with the mean length of Amazon Beauty, and the number of items."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(4 + rng.geometric(1 / (MEAN_LENGTH - 4), size=USERS), LONGEST)
    return leave_one_out([rng.integers(ITEMS, size=length) for length in lengths]), ITEMS


def beauty(folder: Path) -> tuple[PreparedSequences, int]:
    """The real sequences; items are numbered from 1 in the file."""
    lines = (folder / "sequences.txt").read_text("utf-8").splitlines()
    users = [np.array(line.split()[1:], dtype=np.int64) - 1 for line in lines]
    return leave_one_out(users), int(max(user.max() for user in users)) + 1


def leave_one_out(users: list[np.ndarray]) -> PreparedSequences:
    lengths = np.array([len(user) for user in users])
    return PreparedSequences(
        user_ids=[str(number) for number in range(len(users))],
        items=np.concatenate(users).astype(np.int32),
        times=None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        train_lengths=(lengths - 2).astype(np.int32),
        validation_lengths=(lengths - 1).astype(np.int32),
    )


class PlainSASRec(nn.Module):
    """SASRec (arXiv 1808.09781) with the parts that PyTorch ships, over histories padded to one length."""

    def __init__(self, items: int) -> None:
        super().__init__()
        d_model = SETTINGS.d_model
        self.items = nn.Embedding(items + 1, d_model, padding_idx=items)
        self.positions = nn.Embedding(SETTINGS.max_length, d_model)
        layer = nn.TransformerEncoderLayer(
            d_model, SETTINGS.heads, 4 * d_model, SETTINGS.dropout, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, SETTINGS.layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(SETTINGS.dropout)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(SETTINGS.max_length))

    def forward(self, items: Tensor) -> Tensor:
        """States of every place: (batch, max_length, d_model)."""
        x = self.dropout(self.items(items) + self.positions.weight)
        states: Tensor = self.encoder(x, mask=self.mask, is_causal=True)
        return states

    def loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """Full softmax over the catalogue."""
        return F.cross_entropy(F.linear(states, self.items.weight[:-1]), targets)


def ours(
    name: str, samples: PrefixSamples, items: int, intents: bool, settings: TrainConfig = SETTINGS
) -> Contender:
    rng = np.random.default_rng(2)
    codes = synthetic_codes(rng, items, INTENTS)
    decoder = torch.nn.functional.normalize(torch.randn(INTENTS, TEXT), dim=1) if intents else None
    numbers = np.ones(INTENTS, dtype=np.float32)
    context = intent_context(codes, PriorTable(numbers, numbers, 0.1), SETTINGS)
    if not intents:
        context = intent_context(codes[:, :1] * 0, PriorTable(numbers[:1], numbers[:1], 0.0), SETTINGS)
    model = Backbone(items, settings, decoder)

    def steps() -> Iterator[Step]:
        for numbers_ in samples.epoch(SETTINGS.batch_size, seed=1, epoch=0):

            def step(chosen: np.ndarray = numbers_) -> Tensor:
                batch = samples.batch(chosen)
                loss: Tensor = model(
                    torch.from_numpy(batch.items),
                    torch.from_numpy(batch.present),
                    torch.from_numpy(batch.targets),
                    context,
                )
                return loss

            yield step

    return Contender(name, model, steps(), -(-len(samples) // SETTINGS.batch_size))


def plain(samples: PrefixSamples, items: int) -> Contender:
    model = PlainSASRec(items)
    order = np.random.default_rng(1).permutation(len(samples))

    def steps() -> Iterator[Step]:
        for start in range(0, len(order), SETTINGS.batch_size):

            def step(start: int = start) -> Tensor:
                batch = samples.batch(order[start : start + SETTINGS.batch_size])
                padded = np.full((len(batch.targets), SETTINGS.max_length), items)
                width = batch.items.shape[1]
                padded[:, SETTINGS.max_length - width :] = np.where(batch.present, batch.items, items)
                return model.loss(model(torch.from_numpy(padded))[:, -1], torch.from_numpy(batch.targets))

            yield step

    return Contender("plain", model, steps(), -(-len(samples) // SETTINGS.batch_size))


def plain_whole(sequences: PreparedSequences, samples: PrefixSamples, items: int) -> Contender:
    model = PlainSASRec(items)
    users = np.flatnonzero(sequences.train_lengths > 1)
    steps_an_epoch = -(-len(samples) // SETTINGS.batch_size)
    order = np.random.default_rng(1).permutation(users)

    def steps() -> Iterator[Step]:
        for chosen in np.array_split(order, steps_an_epoch):

            def step(chosen: np.ndarray = chosen) -> Tensor:
                shown = np.full((len(chosen), SETTINGS.max_length), items)
                wanted = np.full((len(chosen), SETTINGS.max_length), items)
                for row, user in enumerate(chosen):
                    latest = sequences.train(int(user))[-SETTINGS.max_length - 1 :]
                    shown[row, SETTINGS.max_length - len(latest) + 1 :] = latest[:-1]
                    wanted[row, SETTINGS.max_length - len(latest) + 1 :] = latest[1:]
                states = model(torch.from_numpy(shown))
                places = torch.from_numpy(wanted != items)
                return model.loss(states[places], torch.from_numpy(wanted)[places])

            yield step

    return Contender("plain, whole sequences", model, steps(), steps_an_epoch)


def compare(name: str, sequences: PreparedSequences, items: int, steps: int, say: Transcript) -> None:
    samples = PrefixSamples(sequences, SETTINGS.max_length)
    contenders = [
        ours("with intents", samples, items, intents=True),
        ours(
            "with intents, float32",
            samples,
            items,
            True,
            SETTINGS.model_copy(update={"precision": "float32"}),
        ),
        ours("without intents", samples, items, intents=False),
        plain(samples, items),
        plain_whole(sequences, samples, items),
    ]
    optimisers = [torch.optim.Adam(each.model.parameters(), lr=1e-3) for each in contenders]
    seconds: list[list[float]] = [[] for _ in contenders]
    for _ in range(steps):
        for contender, optimiser, own in zip(contenders, optimisers, seconds, strict=True):
            (step,) = islice(contender.steps, 1)
            begin = time.perf_counter()
            optimiser.zero_grad(set_to_none=True)
            step().backward()
            optimiser.step()
            own.append(time.perf_counter() - begin)
    means = [float(np.mean(own[2:])) for own in seconds]  # the first two warm up
    reference = next(mean for each, mean in zip(contenders, means, strict=True) if each.name == "plain")
    for contender, mean in zip(contenders, means, strict=True):
        cells = [
            name,
            contender.name,
            f"{mean * 1e3:.0f}",
            f"{contender.steps_an_epoch:,}",
            f"{mean * contender.steps_an_epoch:.0f}",
            f"{mean / reference:.2f}",
        ]
        say(f"| {' | '.join(cells)} |")
    share = padding_share(samples, SETTINGS.batch_size)
    where = profile_of(contenders[0], optimisers[0], PROFILED_STEPS)
    say(
        f"{name}: {len(samples):,} samples; {share:.1%} of the places in our batches are padding. "
        f"Where a step with intents goes: {where}.\n"
    )


def profile_of(contender: Contender, optimiser: torch.optim.Optimizer, steps: int) -> str:
    """The operations that take most of its steps, with their shares of the time, in words."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for step in islice(contender.steps, steps):
            optimiser.zero_grad(set_to_none=True)
            step().backward()
            optimiser.step()
    times = {each.key: each.self_cpu_time_total for each in profile.key_averages()}
    most = sorted(times, key=lambda key: -times[key])[:PROFILED_OPERATIONS]
    whole = sum(times.values())
    return ", ".join(f"{key} {times[key] / whole:.0%}" for key in most)


def padding_share(samples: PrefixSamples, batch_size: int) -> float:
    """Share of places in the batches of the first epoch that hold padding."""
    lengths = [samples.lengths(numbers) for numbers in samples.epoch(batch_size, 1, 0)]
    places = sum(int(each.max()) * len(each) for each in lengths)
    return 1 - sum(int(each.sum()) for each in lengths) / places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=66, help="steps of each model that are timed")
    add_page_option(parser)
    options = parser.parse_args()
    say = Transcript()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    say(
        "| set | model | ms a step | steps an epoch | s an epoch | against plain |\n|---|---|---|---|---|---|"
    )
    compare("random, like Beauty", *beauty_like(), options.steps, say)
    folder = Path(os.environ.get("SAEREC_DATA", "../shared/data")) / "amazon2014_beauty"
    if folder.exists():
        compare("Amazon Beauty 2014", *beauty(folder), options.steps, say)
    else:
        print(f"{folder} is not there: set SAEREC_DATA to measure on it too.")
    command = ("SAEREC_DATA=FOLDER " if folder.exists() else "") + shown_command()
    publish(
        options.page, "training-speed", "Speed of training", described(__doc__), say.table_first(), command
    )


if __name__ == "__main__":
    main()
