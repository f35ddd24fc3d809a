"""How fast dictionaries train and how much they leave unexplained, beside a plain dense TopK autoencoder.

    python tests/bench/bench_dictionary.py --embeddings FOLDER [--peer PYTHON]

FOLDER is a finished embed stage, out/amazon2014_beauty/embed by default. Everything runs one after the other in
one thread on the same vectors, with the same width, k, batch size and epochs, at each of the learning rates; the
rate with the lowest FVU is shown. Seconds are CPU seconds of the training steps alone; a model is measured on the
same held-out items after its last step. L0, the mean number of active latents of a held-out item, is shown where
the kind does not fix it at k. `--peer` names a Python with `eai-sparsify` installed. Peers compute in float32. So do
rows that say so; the others take the encoder's product in bfloat16 where the CPU has it, as the product does.
`--fewer-epochs 30` shows how many CPU seconds topk and batchtopk need to leave as little unexplained as peers do.
Peers learn at one rate and keep their last weights; the rates of saerec rise at first and fall over the last fifth,
and its weights are averaged. That is part of what is compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
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

    def row(self, width: int) -> str:
        """A line of the table."""
        l0 = "" if self.l0 is None else f"{self.l0:.2f}"
        return (
            f"| {width} | {self.name} | {self.items_a_second:,.0f} | {self.seconds:.1f} | {self.fvu:.4f} "
            f"| {self.rate:g} | {l0} |"
        )


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
    """The SparseCoder of eai-sparsify, stepped as its trainer does, but with Adam at one rate."""
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
    name: str, width: int, x: torch.Tensor, held_out: torch.Tensor, rate: float, arguments: argparse.Namespace
) -> Measured:
    """Trains one of the peers."""
    train = {"plain dense TopK": train_plain, "eai-sparsify": train_sparsify}[name]
    started = time.process_time()
    reconstruct = train(x, width, arguments.active, arguments.batch, arguments.epochs, rate)
    seconds = time.process_time() - started
    with torch.no_grad():
        error = (held_out - reconstruct(held_out)).square().sum()  # type: ignore[operator]
    items = len(x) // arguments.batch * arguments.epochs * arguments.batch
    fvu = float(error / held_out.square().sum())
    return Measured(name, rate, items / seconds, seconds, fvu)


def measure_ours(
    kind: str,
    multi_k: float,
    precision: str,
    epochs: int,
    width: int,
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
        width=width,
        active=arguments.active,
        batch_size=arguments.batch,
        epochs=epochs,
        learning_rate=rate,
        multi_k_weight=multi_k,
        precision=precision,  # type: ignore[arg-type]
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
        name=f"saerec {kind}"
        + (f" with the loss at 4k, {multi_k}" if multi_k else "")
        + (", float32" if precision == "float32" else "")
        + (f", {epochs} epochs" if epochs != arguments.epochs else ""),
        rate=rate,
        items_a_second=run.steps * run.batch_size / seconds,
        seconds=seconds,
        fvu=fraction_of_variance_unexplained(made, held_out),
        l0=None if kind == "topk" else made.encode(held_out).nnz / len(held_out),
    )


def measured_apart(
    name: str, python: str, folder: str, width: int, arguments: argparse.Namespace
) -> Measured:
    """A peer, trained by a Python of its own on the vectors in `folder`."""
    numbers = [f"--{option}={getattr(arguments, option)}" for option in ("active", "batch", "epochs")]
    numbers += ["--widths", str(width), "--rates", *map(str, arguments.rates)]
    command = [python, __file__, "--embeddings", folder, "--only", name, *numbers]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Measured(**json.loads(printed.strip().splitlines()[-1]))


def best(found: Iterable[Measured]) -> Measured:
    """The one that leaves the least unexplained."""
    return min(found, key=lambda each: each.fvu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--embeddings", type=Path, default=Path("out/amazon2014_beauty/embed"))
    parser.add_argument("--peer", help="a Python with eai-sparsify")
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--active", type=int, default=8)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--fewer-epochs", type=int, help="train topk and batchtopk for so many epochs, too")
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 2e-3, 5e-3])
    parser.add_argument("--page", type=Path, help="the page whose section is replaced; none is by default")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.only:
        arrays = load_file(arguments.embeddings / "scaled.safetensors")
        x, held = (torch.from_numpy(arrays[name]) for name in ("train", "held_out"))
        found = best(
            measure_peer(arguments.only, width, x, held, rate, arguments)
            for width in arguments.widths
            for rate in arguments.rates
        )
        print(json.dumps(asdict(found)))
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
    say("| width | model | items/s | CPU seconds | held-out FVU | learning rate | L0 |")
    say("|---|---|---|---|---|---|---|")
    ours = [("topk", 0.0), ("batchtopk", 0.0), ("matryoshka", 0.125)]
    variants = [(kind, multi_k, "auto", arguments.epochs) for kind, multi_k in ours]
    variants.append(("topk", 0.0, "float32", arguments.epochs))
    if arguments.fewer_epochs:
        variants += [(kind, 0.0, "auto", arguments.fewer_epochs) for kind in ("topk", "batchtopk")]
    scaled = {"train": scaling.apply(train), "held_out": scaling.apply(held_out)}
    for width in arguments.widths:
        for kind, multi_k, precision, epochs in variants:
            measured = (
                measure_ours(
                    kind, multi_k, precision, epochs, width, train, choosing, held_out, rate, arguments
                )
                for rate in arguments.rates
            )
            say(best(measured).row(width))
        with tempfile.TemporaryDirectory() as folder:
            save_file(scaled, Path(folder) / "scaled.safetensors")
            for name, python in (("plain dense TopK", sys.executable), ("eai-sparsify", arguments.peer)):
                if python:
                    say(measured_apart(name, python, folder, width, arguments).row(width))
    say("")
    say(f"{len(train):,} training items, {len(held_out):,} held out, d = {vectors.shape[1]}.")
    publish(arguments.page, "dictionary-speed", "Speed of dictionaries", described(__doc__), say.lines)


if __name__ == "__main__":
    main()
