"""Training the dictionary: a plain loop over scaled vectors that runs on any number of workers."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from saerec_ray import distributed, training_state
from saerec_ray.dictionary.metrics import fraction_of_variance_unexplained
from saerec_ray.dictionary.revival import forget, of_latents, point_anew, unreachable, worst_residuals
from saerec_ray.dictionary.sae import (
    Dictionary,
    Floats,
    Scaling,
    read_dictionary,
    unit_rows,
    write_dictionary,
)
from saerec_ray.dictionary.samples import load_samples
from saerec_ray.dictionary.split import split_for_training
from saerec_ray.dictionary.training import TrainingDictionary, active_at
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import StageError
from saerec_ray.learning_rate import learning_rate_share
from saerec_ray.training_cost import TrainingCost

EVALUATIONS = 40
"""How often the held-out error is measured over a full training."""
CHECKPOINTS = 10
"""How often a checkpoint is taken: Ray Train needs up to half a second for each, however small it is."""
BEST_FOLDER = "best"
_SILENT_STEPS = 256
"""Steps without activation after which a latent is dead, where the training is long enough."""
_SILENT_SHARE = 1 / 8
"""The same in shares of the whole training: short trainings must find their dead latents in time, too."""


def train_dictionary(worker: distributed.Worker, parameters: dict[str, Any]) -> None:
    """The loop of one worker.

    Parameters: `embeddings` (folder of the embed stage), `config` (plain DictionaryConfig), `seed` (of start
    and order), `split_seed` (of which items are held out) and `cold` (items of which nothing is learnt).
    The last checkpoint holds the exported dictionary with the lowest error on the items it is chosen by, which
    are neither trained on nor measured on.
    """
    config = DictionaryConfig.model_validate(parameters["config"])
    samples = load_samples(Path(parameters["embeddings"]), parameters["cold"])
    split = split_for_training(samples.texts, config.held_out_share, parameters["split_seed"])
    split = split.without(parameters["cold"])
    train, choosing = (samples.vectors[samples.of(items)] for items in (split.train, split.choosing))
    run = DictionaryTraining(worker, config, train, choosing, parameters["seed"])
    with worker.restore() as folder:
        if folder is not None:
            run.load(folder)
    while not run.finished:
        run.train_epoch()
        if run.epoch % run.epochs_between_evaluations == 0 or run.epoch == config.epochs:
            run.evaluate()
        if run.epoch % run.epochs_between_checkpoints == 0 or run.finished:
            worker.save(run.write, {"epoch": run.epoch})


class DictionaryTraining:
    """The state of one training: model, optimiser, averages, dead-latent counters, best result."""

    def __init__(
        self, worker: distributed.Worker, config: DictionaryConfig, train: Floats, choosing: Floats, seed: int
    ) -> None:
        """`train` and `choosing`: raw vectors, (samples, d), of items to learn from and of others to choose by."""
        self.worker, self.config, self.seed = worker, config, seed
        self.cost = TrainingCost(worker.device)
        self.scaling = Scaling.fit(train, config.centre)
        self.x = torch.from_numpy(self.scaling.apply(train)).to(worker.device)  # (items, d)
        self.mean = unit_rows(train).mean(axis=0)  # (d,)
        self.choosing = choosing
        self.scaled_choosing = torch.from_numpy(self.scaling.apply(choosing)).to(worker.device)
        generator = torch.Generator().manual_seed(seed)
        self.model = TrainingDictionary(train.shape[1], config, generator).to(worker.device)
        self.model.to_compute_on(worker.device)
        self.parallel = distributed.wrap(self.model, worker)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, eps=1e-8, fused=True
        )
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.silent_samples = torch.zeros(config.width, dtype=torch.int64, device=worker.device)
        self.batch_size = min(config.batch_size, len(train))
        self.steps_an_epoch = len(train) // self.batch_size
        self.steps = self.steps_an_epoch * config.epochs
        self.epochs_between_evaluations = max(1, config.epochs // EVALUATIONS)
        self.epochs_between_checkpoints = max(1, config.epochs // CHECKPOINTS)
        self.epoch = 0
        self.best: Dictionary | None = None
        self.best_error = math.inf
        self.evaluations_without_gain = 0

    @property
    def silent_limit(self) -> float:
        """Samples without activation after which a latent counts as dead; never less than one epoch."""
        steps = min(_SILENT_STEPS, _SILENT_SHARE * self.steps)
        return max(len(self.x), steps * self.batch_size)

    @property
    def finished(self) -> bool:
        """Whether all epochs ran or the held-out error stopped falling."""
        return self.epoch >= self.config.epochs or self.evaluations_without_gain >= self.config.patience

    def train_epoch(self) -> None:
        """One pass over the training items, in an order that depends on seed and epoch alone."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.x))
        rank, world = self.worker.rank, self.worker.world_size
        logged: list[dict[str, Tensor]] = []
        for place in range(self.steps_an_epoch):
            own = order[place * self.batch_size : (place + 1) * self.batch_size][rank::world]
            x = self.x.index_select(0, torch.from_numpy(own).to(self.x.device))
            share = len(own) * world / self.batch_size
            logged.append(self._step(x, self.epoch * self.steps_an_epoch + place, share))
        totals = {name: float(torch.stack([parts[name] for parts in logged]).mean()) for name in logged[0]}
        self.epoch += 1
        if self.config.revive:
            self._revive()
        self.worker.log(
            {"epoch": self.epoch, "epochs": self.config.epochs, **totals, "held_out_fvu": self._shown_error}
        )

    def _step(self, x: Tensor, step: int, share: float) -> dict[str, Tensor]:
        """`share`: samples of this worker over those of the average worker, so that each sample counts alike."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * learning_rate_share(
                step, self.steps, self.config.warm_up_share, self.config.decay_share
            )
        dead = self.silent_samples >= self.silent_limit
        self.model.zero_grad(set_to_none=True)
        parts: dict[str, Tensor]
        loss, parts, fired = self.parallel(x, active_at(step, self.steps, self.config), dead)
        (loss * share).backward()
        self.model.project_gradient()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.model.normalise_decoder()
        self._count_silence(fired)
        decay = min(self.config.average_decay, (1 + step) / (10 + step))
        for average, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            average.lerp_(value.detach(), 1 - decay)
        return parts

    def _count_silence(self, fired: Tensor) -> None:
        if self.worker.world_size > 1:
            flags = fired.to(torch.uint8)
            torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
            fired = flags.bool()
        self.silent_samples += self.batch_size
        self.silent_samples.masked_fill_(fired, 0)

    @torch.no_grad()
    def _revive(self) -> None:
        """Points dead latents that no training item reaches at what is explained worst.

        They still count as dead, so that the loss for dead latents goes on with them at once.
        """
        renewed = torch.zeros_like(self.model.decoder)
        if self.worker.rank == 0:  # decides for all: sums may differ in their last bit between machines
            latents = unreachable(self.model, self.silent_samples >= self.silent_limit, self.x)
            if len(latents):
                directions = worst_residuals(self.model, self.x, len(latents))
                renewed[latents[: len(directions)]] = directions
        if self.worker.world_size > 1:
            torch.distributed.broadcast(renewed, src=0)
        latents = renewed.any(dim=1).nonzero(as_tuple=True)[0]
        if len(latents) == 0:
            return
        point_anew(self.model, latents, renewed[latents])
        forget(self.optimiser, self.model, latents)
        for average, value in zip(of_latents(self.average), of_latents(self.model), strict=True):
            average[latents] = value[latents]

    def evaluate(self) -> None:
        """Exports the averaged weights and keeps them when they explain the items to choose by best so far.

        Thresholds are set on these items, so that all candidates are equally sparse: the denser one always
        explains more.
        """
        candidate = self.average.export(self.scaling, self.scaled_choosing)
        error = self._of_first(fraction_of_variance_unexplained(candidate, self.choosing, self.mean))
        if not math.isfinite(error):
            raise StageError(
                "The training of the dictionary ran into numbers that are not finite; "
                "lower dictionary.learning_rate."
            )
        annealed = self.epoch >= self.config.anneal_share * self.config.epochs
        if not annealed:
            return
        if error < self.best_error - 1e-5:
            self.best, self.best_error, self.evaluations_without_gain = candidate, error, 0
        else:
            self.evaluations_without_gain += 1

    def _of_first(self, error: float) -> float:
        """What the first worker measured, whatever this one did.

        It decides when training ends: errors may differ in their last bit between machines, and a worker that ended
        alone would leave the others waiting for it.
        """
        if self.worker.world_size == 1:
            return error
        shared = torch.tensor(error, dtype=torch.float64, device=self.worker.device)
        torch.distributed.broadcast(shared, src=0)
        return float(shared)

    @property
    def _shown_error(self) -> float | str:
        return self.best_error if math.isfinite(self.best_error) else ""

    def write(self, folder: Path) -> None:
        """Writes this rank's part of a checkpoint."""
        if self.worker.rank != 0:
            return
        tensors = {
            **{f"model.{name}": value for name, value in self.model.state_dict().items()},
            **{f"average.{name}": value for name, value in self.average.state_dict().items()},
            **{
                f"optimiser.{name}": value
                for name, value in training_state.optimizer_tensors(self.optimiser).items()
            },
            "silent_samples": self.silent_samples,
        }
        training_state.save_training_state(
            folder,
            tensors,
            {
                "epoch": self.epoch,
                "best_error": self.best_error if self.best is not None else None,
                "evaluations_without_gain": self.evaluations_without_gain,
                **self.cost.as_dict(self.epoch * self.steps_an_epoch * self.batch_size),
            },
        )
        if self.best is not None:
            (folder / BEST_FOLDER).mkdir(exist_ok=True)
            write_dictionary(self.best, folder / BEST_FOLDER)

    def load(self, folder: Path) -> None:
        """Goes back to a checkpoint."""
        tensors, numbers = training_state.load_training_state(folder)
        self.model.load_state_dict(training_state.with_prefix(tensors, "model."))
        self.average.load_state_dict(training_state.with_prefix(tensors, "average."))
        training_state.load_optimizer_tensors(
            self.optimiser, training_state.with_prefix(tensors, "optimiser.")
        )
        self.silent_samples = tensors["silent_samples"].to(self.x.device)
        self.cost.restore(numbers)
        self.epoch = int(numbers["epoch"])
        self.evaluations_without_gain = int(numbers["evaluations_without_gain"])
        if numbers["best_error"] is not None:
            self.best, self.best_error = read_dictionary(folder / BEST_FOLDER), float(numbers["best_error"])
