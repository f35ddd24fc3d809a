"""Labels proposed by a language model, kept where they find held-out items better than the statistical ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.config import IntentsConfig
from saerec_ray.intents.catalogue import AttributeMatch
from saerec_ray.intents.detection import Examples, draw_examples, judge
from saerec_ray.intents.label_prompts import (
    ACCIDENTAL_GROUPS,
    PLAIN_GROUPS,
    kind_prompt,
    label_prompt,
    usable_kind,
    usable_label,
)
from saerec_ray.intents.language_model import LanguageModel, NoAnswerError
from saerec_ray.intents.naming import Name
from saerec_ray.intents.phrases import Encode

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

SHOWN = 10
"""Items of either side in a prompt."""
VOTES = 3
"""Answers on the kind; two that agree decide."""


@dataclass(frozen=True)
class Evidence:
    """What names are found and judged with."""

    texts: list[str]
    codes: csr_array  # (items, latents)
    embeddings: Floats  # unit rows, (items, d)
    naming_half: Indices
    naming: list[Examples]
    judging: list[Examples]
    attributes: list[AttributeMatch | None]


@dataclass
class Outcome:
    """What became of the intents the model was asked about."""

    asked: int = 0
    accepted: int = 0
    no_better: int = 0  # usable labels, but the statistical one stays
    nonsense: int = 0  # answers, none of them usable
    failed: int = 0  # no answer at all
    dropped_answers: int = 0  # single answers of no use
    kinds: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # why intents had no answer
    disbelieved: int = 0  # intents called nuisance by a model that cannot tell nuisance

    def metrics(self, model: LanguageModel) -> dict[str, Any]:
        """For the manifest."""
        return {
            "model": model.name,
            "asked": self.asked,
            "accepted": self.accepted,
            "no_better": self.no_better,
            "nonsense": self.nonsense,
            "failed": self.failed,
            "reasons": dict(self.reasons),
            "dropped_answers": self.dropped_answers,
            "failed_questions": dict(model.usage.failures),
            "kinds": dict(self.kinds),
            "disbelieved_nuisance": self.disbelieved,
            "calls": model.usage.calls,
            "cached_answers": model.usage.cached,
            "tokens": model.usage.tokens,
        }

    def sentence(self, model: LanguageModel) -> str:
        """For people: what there is, and what is missing and why."""
        text = f"Labels by {model.name}: {self.asked} intents asked, {self.accepted} accepted"
        if self.no_better:
            text += f", {self.no_better} no better than the statistical label"
        if self.nonsense:
            text += f", {self.nonsense} without a usable answer"
        if self.failed:
            reasons = "; ".join(f"{count}: {reason}" for reason, count in self.reasons.most_common())
            text += f", {self.failed} without an answer ({reasons})"
        unasked_kinds = self.kinds["unknown"]
        if unasked_kinds:
            text += f"; the kind of {unasked_kinds} is unknown"
        if self.failed:
            text += ". They keep their statistical labels; run the stage with --force to ask again"
        if self.disbelieved:
            text += (
                f". It called {self.disbelieved} nuisance. That is not believed, and hides none: asked about groups "
                "whose kind is plain, it did not tell nuisance from the rest. A larger model may know"
            )
        return f"{text}."


def improve_names(
    config: IntentsConfig,
    model: LanguageModel,
    evidence: Evidence,
    names: list[Name | None],
    latents: list[int],
    encode: Encode,
    candidates: int,
    seed: int,
    on_progress: Callable[[int, int], None],
) -> tuple[list[Name | None], dict[int, str], Outcome]:
    """Asks about the latents, in the order given, and returns all names, the kinds by latent, and the outcome.

    The model sees items of the naming half. Its best label is chosen with other items of that half, and is
    accepted when it beats the present one, and the gate, in the judging half. What the model says of its own
    certainty is never asked. A latent without an answer keeps its name. When it first calls an intent nuisance, which
    hides it, it is asked about groups whose kind is plain: a model that does not tell them apart is not believed.
    """
    shown = draw_examples(
        evidence.codes, evidence.embeddings, evidence.naming_half, seed + 2, positives=SHOWN, negatives=SHOWN
    )
    outcome = Outcome()
    improved, kinds = list(names), {}
    tells_nuisance: bool | None = None
    for place, latent in enumerate(latents):
        outcome.asked += 1
        proposed = _proposed(model, evidence, shown[latent], candidates, outcome)
        if proposed:
            better = _better_name(config, evidence, latent, shown[latent], proposed, names[latent], encode)
            outcome.accepted += better is not None
            outcome.no_better += better is None
            improved[latent] = better or names[latent]
        name = improved[latent]
        if name and name.detection_auc is not None and name.detection_auc >= config.min_detection_auc:
            kind = _kind(model, name.label, [evidence.texts[item] for item in shown[latent].positives])
            if kind == "nuisance":
                tells_nuisance = _tells_nuisance(model) if tells_nuisance is None else tells_nuisance
                if not tells_nuisance:
                    outcome.disbelieved += 1
                    kind = "unknown"
            kinds[latent] = kind
            outcome.kinds[kind] += 1
        on_progress(place + 1, len(latents))
    return improved, kinds, outcome


def _proposed(
    model: LanguageModel, evidence: Evidence, shown: Examples, candidates: int, outcome: Outcome
) -> list[str]:
    """The usable labels among the answers, each once; none of them is recorded as nonsense or a failure."""
    inside = [evidence.texts[item] for item in shown.positives]
    outside = [evidence.texts[item] for item in shown.negatives]
    prompt = label_prompt(inside, outside)
    labels: dict[str, str] = {}
    answered, reason = 0, ""
    for number in range(candidates):
        try:
            answer = model.ask(prompt, number)
        except NoAnswerError as error:
            reason = str(error)
            continue
        answered += 1
        if (label := usable_label(answer, [*inside, *outside])) is None:
            outcome.dropped_answers += 1
        else:
            labels.setdefault(label.casefold(), label)
    if not answered:
        outcome.failed += 1
        outcome.reasons[reason] += 1
    elif not labels:
        outcome.nonsense += 1
    return list(labels.values())


def _better_name(
    config: IntentsConfig,
    evidence: Evidence,
    latent: int,
    shown: Examples,
    labels: list[str],
    present: Name | None,
    encode: Encode,
) -> Name | None:
    """The best label as a name, or None when the present one stays."""
    vectors = encode(labels)
    choosing = _unseen(evidence.naming[latent], shown)
    scores = [judge(vector, choosing, evidence.embeddings) for vector in vectors]
    best = int(np.argmax(scores))
    auc = judge(vectors[best], evidence.judging[latent], evidence.embeddings)
    if auc < config.min_detection_auc or (present and present.detection_auc and auc <= present.detection_auc):
        return None
    if present is None:
        return Name(labels[best], [], evidence.attributes[latent], vectors[best], auc, source="model")
    return replace(present, label=labels[best], vector=vectors[best], detection_auc=auc, source="model")


def _unseen(examples: Examples, shown: Examples) -> Examples:
    """The examples that were not in the prompt; all of them where too few would be left."""
    unseen = Examples(
        np.setdiff1d(examples.positives, shown.positives), np.setdiff1d(examples.negatives, shown.negatives)
    )
    return unseen if unseen.judgeable else examples


def _tells_nuisance(model: LanguageModel) -> bool:
    """Whether it calls no plain group nuisance, and most of the accidental ones.

    Both are asked: a model that guesses, or gives every group the same kind, passes one of them easily.
    """
    if not all(_kind(model, label, texts) in ("intent", "item property") for label, texts in PLAIN_GROUPS):
        return False
    found = sum(_kind(model, label, texts) == "nuisance" for label, texts in ACCIDENTAL_GROUPS)
    return found > len(ACCIDENTAL_GROUPS) // 2


def _kind(model: LanguageModel, label: str, inside: Sequence[str]) -> str:
    """What most of the answers say; unknown when no two agree."""
    prompt = kind_prompt(label, inside)
    votes: Counter[str] = Counter()
    for number in range(VOTES):
        try:
            kind = usable_kind(model.ask(prompt, number))
        except NoAnswerError:
            continue  # told by usage.failures; fewer votes may still agree
        if kind:
            votes[kind] += 1
            if votes[kind] > VOTES // 2:
                return kind
    return "unknown"
