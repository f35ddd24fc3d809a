"""Training the backbone: a plain loop over prefixes that runs on any number of workers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from torch import Tensor

from saerec_ray import distributed, training_state
from saerec_ray.backbone.batches import PrefixSamples
from saerec_ray.backbone.encoder import UserEncoder, intent_context
from saerec_ray.backbone.frozen import Frozen, read_frozen
from saerec_ray.backbone.model import Backbone
from saerec_ray.backbone.new_items import new_items
from saerec_ray.backbone.sampled_softmax import NegativeSampler
from saerec_ray.backbone.validation import (
    VALIDATION_CUTOFF,
    Floats,
    affordable,
    encode_users,
    held_out,
    target_ranks,
    user_scores,
)
from saerec_ray.config import TrainConfig
from saerec_ray.data.prepared import PreparedSequences, read_sequences
from saerec_ray.errors import StageError
from saerec_ray.learning_rate import learning_rate_share
from saerec_ray.scoring import ItemSpace

BEST_FILE = "best.safetensors"


def train_backbone(worker: distributed.Worker, parameters: dict[str, Any]) -> None:
    """The loop of one worker.

    Parameters: `prepared` (folder of the prepare stage), `frozen` (folder with codes, decoder and prior),
    `config` (plain TrainConfig), `intents` (false trains the plain backbone), `seed`, `checkpoint_samples`.
    The last checkpoint holds the weights with the best validation NDCG@10 in BEST_FILE.
    Raises StageError on every worker when one ran into numbers that are not finite.
    """
    config = TrainConfig.model_validate(parameters["config"])
    frozen = read_frozen(Path(parameters["frozen"]), parameters["intents"])
    sequences = read_sequences(Path(parameters["prepared"]))
    run = BackboneTraining(worker, config, frozen, sequences, parameters)
    with worker.restore() as folder:
        if folder is not None:
            run.load(folder)
    while not run.finished:
        run.train_epoch(parameters["checkpoint_samples"])
        run.validate()
        run.save()


class BackboneTraining:
    """The state of one training: model, optimiser, progress in samples, best weights."""

    def __init__(
        self,
        worker: distributed.Worker,
        config: TrainConfig,
        frozen: Frozen,
        sequences: PreparedSequences,
        parameters: dict[str, Any],
    ) -> None:
        seed = int(parameters["seed"])
        torch.manual_seed(seed)
        self.worker, self.config, self.frozen, self.seed = worker, config, frozen, seed
        decoder = torch.from_numpy(frozen.decoder) if parameters["intents"] else None
        self.model = Backbone(frozen.codes.shape[0], config, decoder).to(worker.device)
        self.sampler: NegativeSampler | None = None
        if frozen.codes.shape[0] > config.full_softmax_items:
            self.sampler = NegativeSampler(np.expm1(frozen.popularity))
        sparse = ["items.residuals"] if self.sampler is not None else []
        self.parallel = distributed.wrap(self.model, worker, sparse)
        self.optimisers = _optimisers(self.model, config, sparse=self.sampler is not None)
        self.context = intent_context(frozen.codes, frozen.prior, config).to(worker.device)
        self.samples = PrefixSamples(sequences, config.max_length)
        cases = affordable(held_out(sequences, "validation"), frozen.codes.shape[0], seed)
        self.cases = cases.share(worker.rank, worker.world_size)
        torch.manual_seed(seed * 1_000_003 + worker.rank + 1)  # dropout differs between workers
        self.epoch = 0
        self.samples_done = 0  # of the epoch under way
        self.best: dict[str, Tensor] | None = None
        self.best_ndcg = -1.0
        self.epochs_without_gain = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs ran or validation stopped getting better."""
        return self.epoch >= self.config.epochs or self.epochs_without_gain >= self.config.patience

    def train_epoch(self, checkpoint_samples: int) -> None:
        """The rest of the epoch under way, with a checkpoint every so many samples."""
        self.model.train()
        rank, world = self.worker.rank, self.worker.world_size
        since_checkpoint = 0
        for batch in self.samples.epoch(self.config.batch_size, self.seed, self.epoch, self.samples_done):
            own = batch[rank::world] if len(batch) >= world else batch
            share = len(own) * world / len(batch) if len(batch) >= world else 1.0
            loss = self.step(own, share)
            self.samples_done += len(batch)
            since_checkpoint += len(batch)
            self._log(loss)
            if since_checkpoint >= checkpoint_samples and self.samples_done < len(self.samples):
                self.save()
                since_checkpoint = 0
        self.epoch += 1
        self.samples_done = 0

    def step(self, samples: np.ndarray[Any, Any], share: float) -> Tensor:
        """`share`: samples of this worker over those of the average worker, so that each sample counts alike."""
        batch = self.samples.batch(samples)
        device = self.worker.device
        negatives = None
        if self.sampler is not None:
            key = (self.seed, self.epoch, self.samples_done)
            negatives = self.sampler.draw(self.config.negatives, key).to(device)
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = self.config.learning_rate * self._learning_rate_share()
            optimiser.zero_grad(set_to_none=True)
        loss: Tensor = self.parallel(
            torch.from_numpy(batch.items).to(device),
            torch.from_numpy(batch.present).to(device),
            torch.from_numpy(batch.targets).to(device),
            self.context,
            negatives,
        )
        (loss * share).backward()  # type: ignore[no-untyped-call]
        if self.sampler is not None:
            distributed.average_sparse(self.model.items.residuals, self.worker)
        for optimiser in self.optimisers.values():
            optimiser.step()
        if self.sampler is not None:
            self._decay_rows_in_use()
        return loss

    def _decay_rows_in_use(self) -> None:
        """Weight decay of the residuals that have a sparse gradient: SparseAdam has none, and all rows are too many."""
        residuals = self.model.items.residuals
        decay = self.model.items.residual_decay
        if decay and residuals.grad is not None:
            rows = residuals.grad.coalesce().indices()[0]
            kept = 1 - decay * self.config.learning_rate * self._learning_rate_share()
            with torch.no_grad():
                residuals[rows] *= kept

    def _learning_rate_share(self) -> float:
        done = self.epoch * len(self.samples) + self.samples_done
        total = self.config.epochs * len(self.samples)
        return learning_rate_share(done, total, self.config.warm_up_share, self.config.decay_share)

    def _log(self, loss: Tensor) -> None:
        steps = self.samples_done // self.config.batch_size
        if steps % 50 == 0 or self.samples_done >= len(self.samples):
            value = float(loss.detach())
            self._refuse_unless(math.isfinite(value))
            self.worker.log(
                {
                    "epoch": self.epoch,
                    "epochs": self.config.epochs,
                    "samples": self.samples_done,
                    "samples_an_epoch": len(self.samples),
                    "loss": value,
                    "best_validation_ndcg": max(self.best_ndcg, 0.0),
                }
            )

    def _refuse_unless(self, finite: bool) -> None:
        """Ends the training of all workers when one met a number that is not finite: each has its own loss."""
        faults = torch.tensor(float(not finite), device=self.worker.device)
        if self.worker.world_size > 1:
            torch.distributed.all_reduce(faults)
        if faults:
            raise StageError(
                "The training of the backbone ran into numbers that are not finite; lower train.learning_rate."
            )

    def validate(self) -> None:
        """Ranks the validation items and keeps the weights when they are the best so far.

        Where nothing is held out, the latest weights are kept.
        Raises StageError when a weight or a score is not finite.
        """
        self.model.eval()
        ndcg = self._validation_ndcg()
        if ndcg is None or ndcg > self.best_ndcg + 1e-6:
            self.best_ndcg, self.epochs_without_gain = ndcg or 0.0, 0
            self.best = {
                name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()
            }
        else:
            self.epochs_without_gain += 1

    def _validation_ndcg(self) -> float | None:
        state = {name: value.detach().cpu() for name, value in self.model.state_dict().items()}
        alone = self.config.model_copy(update={"members": 1})
        space, encoder = trained_parts(together([state]), alone, self.frozen)
        finite = all(bool(value.isfinite().all()) for value in state.values())
        ranks = np.empty(0, dtype=np.int64)
        if len(self.cases):
            users = encode_users(encoder, self.cases)

            def looked_at() -> Iterator[tuple[int, Floats]]:
                nonlocal finite
                for start, scores in user_scores(space, self.frozen.prior, users):
                    finite = finite and bool(np.isfinite(scores).all())
                    yield start, scores

            ranks = target_ranks(self.cases, looked_at)
        self._refuse_unless(finite)
        gains = np.where(ranks <= VALIDATION_CUTOFF, 1 / np.log2(ranks + 1), 0)
        totals = torch.tensor([gains.sum(), len(gains)], dtype=torch.float64, device=self.worker.device)
        if self.worker.world_size > 1:
            torch.distributed.all_reduce(totals)
        return float(totals[0] / totals[1]) if totals[1] else None

    def save(self) -> None:
        """Takes a checkpoint; every worker takes part."""
        self.worker.save(self._write, {"validation_ndcg": max(self.best_ndcg, 0.0), "epoch": self.epoch})

    def _write(self, folder: Path) -> None:
        training_state.save_random_state(folder, self.worker.rank)
        if self.worker.rank != 0:
            return
        tensors = {
            **{f"model.{name}": value for name, value in self.model.state_dict().items()},
            **{
                f"{kind}.{name}": value
                for kind, optimiser in self.optimisers.items()
                for name, value in training_state.optimizer_tensors(optimiser).items()
            },
        }
        numbers = {
            "epoch": self.epoch,
            "samples_done": self.samples_done,
            "best_ndcg": self.best_ndcg,
            "epochs_without_gain": self.epochs_without_gain,
        }
        training_state.save_training_state(folder, tensors, numbers)
        if self.best is not None:
            save_file(self.best, folder / BEST_FILE)

    def load(self, folder: Path) -> None:
        """Goes back to a checkpoint."""
        tensors, numbers = training_state.load_training_state(folder)
        self.model.load_state_dict(training_state.with_prefix(tensors, "model."))
        for kind, optimiser in self.optimisers.items():
            training_state.load_optimizer_tensors(optimiser, training_state.with_prefix(tensors, f"{kind}."))
        self.epoch = int(numbers["epoch"])
        self.samples_done = int(numbers["samples_done"])
        self.best_ndcg = float(numbers["best_ndcg"])
        self.epochs_without_gain = int(numbers["epochs_without_gain"])
        self.best = load_file(folder / BEST_FILE) if (folder / BEST_FILE).exists() else None
        training_state.load_random_state(folder, self.worker.rank)


def _optimisers(model: Backbone, config: TrainConfig, sparse: bool) -> dict[str, torch.optim.Optimizer]:
    """AdamW, with a weight decay of its own for residuals; sparse gradients of residuals get SparseAdam."""
    residuals = model.items.residuals
    rest = [weights for weights in model.parameters() if weights is not residuals]
    adam = torch.optim.AdamW(rest, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    if sparse:
        rows = torch.optim.SparseAdam([residuals], lr=config.learning_rate)
        return {"optimiser": adam, "sparse_optimiser": rows}
    adam.add_param_group({"params": [residuals], "weight_decay": model.items.residual_decay})
    return {"optimiser": adam}


def together(members: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The states of several Backbones as one: item vectors side by side, mean biases, encoders by number."""
    columns = ("items.residuals", "items.intent_vectors")
    joined = {
        name: torch.cat([state[name] for state in members], dim=1) for name in columns if name in members[0]
    }
    joined["items.biases"] = torch.stack([state["items.biases"] for state in members]).mean(dim=0)
    for member, state in enumerate(members):
        for name, value in training_state.with_prefix(state, "encoder.").items():
            joined[f"encoder.{member}.{name}"] = value
    return joined


def trained_parts(
    state: dict[str, Tensor],
    config: TrainConfig,
    frozen: Frozen,
    prior_weight: float = 0.0,
    companion_weight: float = 0.0,
    new_item_bias: float = 0.0,
) -> tuple[ItemSpace, UserEncoder]:
    """The scoring space and the user encoder of a state made by `together`.

    Items without any training interaction have no residual (method.md, section 3), and all the same bias: as
    targets they were only ever wrong, so what the loss taught these parameters would keep such items out of every
    list.
    """
    arrays = {name: value.numpy() for name, value in state.items()}
    new = new_items(frozen.popularity)  # (items,)
    residuals = arrays["items.residuals"] * ~new[:, None]
    no_intents = np.zeros((frozen.codes.shape[1], residuals.shape[1]), dtype=np.float32)
    space = ItemSpace(
        codes=frozen.codes,
        intent_vectors=arrays.get("items.intent_vectors", no_intents),
        residuals=residuals,
        biases=np.where(new, np.float32(new_item_bias), arrays["items.biases"]),
        popularity=frozen.popularity,
        prior_weight=prior_weight,
        companions=frozen.companions if frozen.companions.nnz else None,
        companion_weight=companion_weight,
    )
    encoder = {
        name.removeprefix("encoder."): value for name, value in arrays.items() if name.startswith("encoder.")
    }
    return space, UserEncoder(config, encoder, space, frozen.prior)
