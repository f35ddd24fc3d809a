"""How fast dictionaries train and how much they leave unexplained, beside a plain dense TopK autoencoder.

    python tests/bench/bench_dictionary.py --embeddings FOLDER [--peer PYTHON]

FOLDER is a finished embed stage, out/amazon2014_beauty/embed by default. Everything runs one after the other in
one thread on the same vectors, with the same width, k, batch size and epochs, at each of the learning rates; the
rate with the lowest FVU is shown. Seconds are CPU seconds of the training steps alone; a model is measured on the
same held-out items after its last step. L0, the mean number of active latents of a held-out item, is shown where
the kind does not fix it at k. `--peer` names a Python with `eai-sparsify` installed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file


@dataclass(frozen=True)
class Measured:
    """A finished training."""

    name: str
    rate: float
    items_a_second: float
    seconds: float
    fvu: float
    l0: float | None = None

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.items_a_second:.0f} items/s, {self.seconds:.1f} CPU seconds, "
            f"held-out FVU {self.fvu:.4f}, learning rate {self.rate:g}"
        ) + ("" if self.l0 is None else f", L0 {self.l0:.2f}")


def train_plain(x: torch.Tensor, width: int, active: int, batch: int, epochs: int, rate: float) -> object:
    """The usual untied TopK autoencoder: dense products, unit decoder rows, Adam."""
    torch.manual_seed(0)
    directions = F.normalize(torch.randn(width, x.shape[1]), dim=1)
    encoder, decoder = (directions.clone().requires_grad_() for _ in range(2))
    bias, offset = torch.zeros(width, requires_grad=True), torch.zeros(x.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([encoder, decoder, bias, offset], lr=rate)

    def reconstruct(part: torch.Tensor) -> torch.Tensor:
        values, places = F.relu(F.linear(part, encoder, bias)).topk(active, dim=1)
        codes = torch.zeros(len(part), width).scatter(1, places, values)
        return codes @ decoder + offset

    for order in orders(len(x), batch, epochs):
        part = x[order]
        loss = (part - reconstruct(part)).square().sum() / part.square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            decoder.copy_(F.normalize(decoder, dim=1))
    return reconstruct


def train_sparsify(x: torch.Tensor, width: int, active: int, batch: int, epochs: int, rate: float) -> object:
    """The SparseCoder of eai-sparsify, stepped as its trainer does, with Adam."""
    from sparsify import SparseCoder, SparseCoderConfig

    torch.manual_seed(0)
    coder = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=width, k=active))
    optimiser = torch.optim.Adam(coder.parameters(), lr=rate)
    for order in orders(len(x), batch, epochs):
        coder.set_decoder_norm_to_unit_norm()
        coder(x[order]).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
    return lambda part: coder(part).sae_out


def orders(items: int, batch: int, epochs: int) -> list[torch.Tensor]:
    """Batches of item indices, whole ones only."""
    found = []
    for epoch in range(epochs):
        order = torch.from_numpy(np.random.default_rng([0, epoch]).permutation(items))
        found += [order[start : start + batch] for start in range(0, items - batch + 1, batch)]
    return found


def measure_peer(
    name: str, x: torch.Tensor, held_out: torch.Tensor, rate: float, arguments: argparse.Namespace
) -> Measured:
    """Trains one of the peers."""
    train = {"plain dense TopK": train_plain, "eai-sparsify": train_sparsify}[name]
    started = time.process_time()
    reconstruct = train(x, arguments.width, arguments.active, arguments.batch, arguments.epochs, rate)
    seconds = time.process_time() - started
    with torch.no_grad():
        error = (held_out - reconstruct(held_out)).square().sum()  # type: ignore[operator]
    items = len(x) // arguments.batch * arguments.epochs * arguments.batch
    fvu = float(error / held_out.square().sum())
    return Measured(name, rate, items / seconds, seconds, fvu)


def measure_ours(
    kind: str,
    multi_k: float,
    train: np.ndarray,
    choosing: np.ndarray,
    held_out: np.ndarray,
    rate: float,
    arguments: argparse.Namespace,
) -> Measured:
    """Trains one of our kinds to the end; early stopping and evaluations are left out."""
    from saerec_ray.attempts import begin_attempt
    from saerec_ray.dictionary.metrics import fraction_of_variance_unexplained
    from saerec_ray.dictionary.trainer import DictionaryTraining
    from saerec_ray.dictionary_settings import DictionaryConfig
    from saerec_ray.local_workers import LocalWorker, latest_checkpoint

    config = DictionaryConfig(
        kind=kind,  # type: ignore[arg-type]
        width=arguments.width,
        active=arguments.active,
        batch_size=arguments.batch,
        epochs=arguments.epochs,
        learning_rate=rate,
        multi_k_weight=multi_k,
    )
    with tempfile.TemporaryDirectory() as folder:
        attempt = begin_attempt(Path(folder), "bench", {}, latest_checkpoint)
        worker = LocalWorker(0, 1, torch.device("cpu"), attempt)
        run = DictionaryTraining(worker, config, train, choosing, seed=0)
        started = time.process_time()
        for _ in range(config.epochs):
            run.train_epoch()
        seconds = time.process_time() - started
        made = run.average.export(run.scaling, run.scaled_choosing)
    return Measured(
        name=f"saerec {kind}" + (f" with the loss at 4k, {multi_k}" if multi_k else ""),
        rate=rate,
        items_a_second=run.steps * run.batch_size / seconds,
        seconds=seconds,
        fvu=fraction_of_variance_unexplained(made, held_out),
        l0=None if kind == "topk" else made.encode(held_out).nnz / len(held_out),
    )


def best(found: Iterable[Measured]) -> Measured:
    """The one that leaves the least unexplained."""
    return min(found, key=lambda each: each.fvu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--embeddings", type=Path, default=Path("out/amazon2014_beauty/embed"))
    parser.add_argument("--peer", help="a Python with eai-sparsify")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--active", type=int, default=8)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 2e-3, 5e-3])
    parser.add_argument("--page", type=Path, help="the page whose section is replaced; none is by default")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.only:
        arrays = load_file(arguments.embeddings / "scaled.safetensors")
        x, held = (torch.from_numpy(arrays[name]) for name in ("train", "held_out"))
        print(best(measure_peer(arguments.only, x, held, rate, arguments) for rate in arguments.rates))
        return

    from saerec_ray.dictionary.sae import Scaling
    from saerec_ray.dictionary.split import split_for_training
    from saerec_ray.text.embed import load_embeddings
    from tests.bench.published import Transcript, described, publish

    if not arguments.embeddings.is_dir():
        missing = f"{arguments.embeddings} is not there: name a finished embed stage with --embeddings."
        if arguments.page:
            parser.error(missing)
        print(missing)
        return
    say = Transcript()
    vectors = load_embeddings(arguments.embeddings)
    split = split_for_training(vectors, 0.1, seed=0)
    train, choosing, held_out = (vectors[part] for part in (split.train, split.choosing, split.held_out))
    scaling = Scaling.fit(train)
    say(f"{len(train)} training items, {len(held_out)} held out, d = {vectors.shape[1]}")
    for kind, multi_k in (("topk", 0.0), ("batchtopk", 0.0), ("matryoshka", 0.125)):
        say(
            str(
                best(
                    measure_ours(kind, multi_k, train, choosing, held_out, rate, arguments)
                    for rate in arguments.rates
                )
            )
        )
    scaled = {"train": scaling.apply(train), "held_out": scaling.apply(held_out)}
    with tempfile.TemporaryDirectory() as folder:
        save_file(scaled, Path(folder) / "scaled.safetensors")
        numbers = [f"--{name}={getattr(arguments, name)}" for name in ("width", "active", "batch", "epochs")]
        numbers += ["--rates", *map(str, arguments.rates)]
        for name, python in (("plain dense TopK", sys.executable), ("eai-sparsify", arguments.peer)):
            if python:
                command = [python, __file__, "--embeddings", folder, "--only", name, *numbers]
                say(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    publish(arguments.page, "dictionary-speed", "Speed of dictionaries", described(__doc__), say.fenced())


if __name__ == "__main__":
    main()
