"""Histories to user states, for evaluation and serving: the trained encoder behind plain arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array

from saerec_ray.backbone.code_product import CodeProduct
from saerec_ray.backbone.model import IntentContext, SequenceEncoder, user_profiles
from saerec_ray.config import TrainConfig
from saerec_ray.scoring import ItemSpace, PriorTable, companion_strengths

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class UserStates:
    """What the encoder knows of a batch of users."""

    states: Floats  # h_u: (users, d_model)
    profiles: Floats  # a_u: (users, intents)
    history_weights: list[Floats]  # alpha_ut for the items read, oldest first; each sums to 1
    companions: csr_array  # c_u of the items read: (users, items)


def pad_codes(codes: csr_array) -> tuple[npt.NDArray[np.int64], Floats]:
    """Codes as two dense arrays (items, most intents of an item): intent numbers and values, padded with 0."""
    counts = np.diff(codes.indptr)
    width = max(int(counts.max(initial=0)), 1)
    rows = np.repeat(np.arange(codes.shape[0]), counts)
    places = np.arange(len(codes.indices)) - np.repeat(codes.indptr[:-1], counts)
    intents = np.zeros((codes.shape[0], width), dtype=np.int64)
    values = np.zeros((codes.shape[0], width), dtype=np.float32)
    intents[rows, places] = codes.indices
    values[rows, places] = codes.data
    return intents, values


def public_intents(public: Floats, count: int) -> npt.NDArray[np.int64]:
    """The intents with the largest public weight, which the public branch attends to."""
    return np.argsort(-public, kind="stable")[:count].astype(np.int64)


def intent_context(codes: csr_array, prior: PriorTable, settings: TrainConfig) -> IntentContext:
    """The frozen side of the encoder as tensors."""
    intents, values = pad_codes(codes)
    return IntentContext(
        code_intents=torch.from_numpy(intents),
        code_values=torch.from_numpy(values),
        product=CodeProduct.of(codes),
        inverse_document_frequency=torch.from_numpy(prior.inverse_document_frequency),
        public=torch.from_numpy(public_intents(prior.public, settings.public_intents)),
        intent_count=int(codes.shape[1]),
    )


class UserEncoder:
    """The trained encoders of all members with their item vectors; safe to share between threads.

    A model may be an ensemble (deep ensembles, arXiv 1612.01474): members are trained apart and score together.
    The item vectors of the members stand side by side, and so do their states, divided by their number. So one inner
    product is the mean of the members' scores, and everything said of one model holds for several.
    """

    def __init__(
        self,
        settings: TrainConfig,
        weights: Mapping[str, npt.NDArray[Any]],
        space: ItemSpace,
        prior: PriorTable,
    ) -> None:
        """`weights` holds the state of one SequenceEncoder a member, each name led by `MEMBER.`, from 0 on.

        Raises ValueError when they do not fit the settings or the item vectors.
        """
        width = settings.d_model * settings.members
        if space.residuals.shape[1] != width:
            raise ValueError(
                f"the item vectors have {space.residuals.shape[1]} numbers where the configuration says {width}"
            )
        self._settings = settings
        self._space = space
        own = [_of_member(weights, member) for member in range(settings.members)]
        unknown = set(weights) - {f"{member}.{name}" for member, names in enumerate(own) for name in names}
        if unknown:
            raise ValueError(
                f"the backbone weights do not fit the configuration: {min(unknown)} is of no member"
            )
        self._members = [_encoder(settings, each) for each in own]
        self._context = intent_context(space.codes, prior, settings)
        self._item_vectors = _columns(space.item_vectors, settings.members)
        self._intent_vectors = _columns(space.intent_vectors, settings.members)

    @property
    def max_length(self) -> int:
        """How many of the latest interactions are read."""
        return self._settings.max_length

    @property
    def width(self) -> int:
        """Length of a state: that of an item vector."""
        return int(self._space.residuals.shape[1])

    @property
    def intent_count(self) -> int:
        """Length of a profile."""
        return self._space.intent_count

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """The weights as the constructor takes them."""
        return {
            f"{member}.{name}": tensor.numpy()
            for member, model in enumerate(self._members)
            for name, tensor in model.state_dict().items()
        }

    @torch.inference_mode()
    def encode(self, histories: Sequence[npt.NDArray[np.integer[Any]]]) -> UserStates:
        """Encodes non-empty histories of item indices, oldest first; only the latest max_length are read.

        History weights and profiles are means over the members.
        """
        recent = [history[-self.max_length :] for history in histories]
        items, present = right_aligned(recent)
        states, weights = [], []
        for state, _, own in self._read(items, present):
            states.append(state / len(self._members))
            weights.append(own)
        mean_weights = torch.stack(weights).mean(dim=0)  # (batch, length)
        return UserStates(
            states=torch.cat(states, dim=1).numpy(),
            profiles=user_profiles(items, mean_weights, self._context).numpy(),
            history_weights=[row[-len(own) :].numpy() for row, own in zip(mean_weights, recent, strict=True)],
            companions=companion_strengths(self._space, recent),
        )

    @torch.inference_mode()
    def branch_weights(self, histories: Sequence[npt.NDArray[np.integer[Any]]]) -> dict[str, Floats]:
        """What the gate gives the user's own state and each branch (method.md section 3), of each member.

        By name: `gate_own_state`, `gate_personal` and `gate_public`, as far as the model has them, (users, members);
        of a user and member they sum to 1. What branches get is multiplied by `branch_scale`, (members,). Empty for
        a model without branches.
        """
        branches = [name for name in ("personal", "public") if getattr(self._members[0], name) is not None]
        if not branches:
            return {}
        items, present = right_aligned([history[-self.max_length :] for history in histories])
        gates = torch.stack([gates for _, gates, _ in self._read(items, present)], dim=1)
        names = [f"gate_{name}" for name in ("own_state", *branches)]
        found = {name: gates[..., place].numpy() for place, name in enumerate(names)}
        scales = torch.stack([member.branch_scale.detach() for member in self._members])
        return {**found, "branch_scale": scales.numpy()}

    def _read(
        self, items: torch.Tensor, present: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """State (users, d_model), gate weights and history weights of right-aligned histories, member by member."""
        for model, item_vectors, intent_vectors in zip(
            self._members, self._item_vectors, self._intent_vectors, strict=True
        ):
            own = model.history_weights(present)
            profiles = user_profiles(items, own, self._context)
            state, gates = model(item_vectors[items], present, profiles, intent_vectors, self._context)
            yield state, gates, own


def _of_member(weights: Mapping[str, npt.NDArray[Any]], member: int) -> dict[str, npt.NDArray[Any]]:
    lead = f"{member}."
    return {name.removeprefix(lead): value for name, value in weights.items() if name.startswith(lead)}


def _encoder(settings: TrainConfig, weights: Mapping[str, npt.NDArray[Any]]) -> SequenceEncoder:
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and a training may be under way
        model = SequenceEncoder(settings, intents=any(name.startswith("gate.") for name in weights))
    try:
        model.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in weights.items()})
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"the backbone weights do not fit the configuration: {reason}") from error
    return model.eval()


def _columns(vectors: Floats, members: int) -> list[torch.Tensor]:
    """The columns of each member, (rows, members x d_model) to (rows, d_model) each."""
    return [torch.from_numpy(np.ascontiguousarray(part)) for part in np.split(vectors, members, axis=1)]


def right_aligned(histories: Sequence[npt.NDArray[np.integer[Any]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Item indices (batch, longest) with the latest item last, and where they are present."""
    longest = max(len(history) for history in histories)
    items = np.zeros((len(histories), longest), dtype=np.int64)
    present = np.zeros((len(histories), longest), dtype=bool)
    for row, history in enumerate(histories):
        items[row, longest - len(history) :] = history
        present[row, longest - len(history) :] = True
    return torch.from_numpy(items), torch.from_numpy(present)
