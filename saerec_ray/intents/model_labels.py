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
    fewer: Counter[str] = field(default_factory=Counter)  # answered less often than asked, by why
    dropped_answers: int = 0  # single answers of no use
    kinds: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # why intents had no answer
    disbelieved: int = 0  # intents called nuisance by a model that cannot tell nuisance
    unanswered_kinds: Counter[str] = field(
        default_factory=Counter
    )  # intents, by why their kind has no answer
    unchecked: Counter[str] = field(
        default_factory=Counter
    )  # called nuisance, by why the check has no answer

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
            "fewer_candidates": dict(self.fewer),
            "dropped_answers": self.dropped_answers,
            "failed_questions": dict(model.usage.failures),
            "kinds": dict(self.kinds),
            "disbelieved_nuisance": self.disbelieved,
            "unanswered_kinds": dict(self.unanswered_kinds),
            "unchecked_nuisance": dict(self.unchecked),
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
            text += f", {self.failed} without an answer ({_by_reason(self.reasons)})"
        if self.fewer:
            text += f", {self.fewer.total()} with fewer candidates than asked for ({_by_reason(self.fewer)})"
        if unknown := self.kinds["unknown"]:
            text += f"; the kind of {unknown} is unknown"
        if self.unanswered_kinds:
            text += f", {self.unanswered_kinds.total()} for want of an answer ({_by_reason(self.unanswered_kinds)})"
        if self.disbelieved:
            text += (
                f". It called {self.disbelieved} nuisance. That is not believed, and hides none: asked about groups "
                "whose kind is plain, it did not tell nuisance from the rest. A larger model may know"
            )
        if self.unchecked:
            text += (
                f". It called {self.unchecked.total()} nuisance, which hides none so far: whether it can tell nuisance "
                f"is not known, for the questions on that had no answer ({_by_reason(self.unchecked)})"
            )
        if self.failed:
            text += ". Intents without an answer keep their statistical labels"
        if self.failed or self.fewer or self.unanswered_kinds or self.unchecked:
            text += ". Run the stage with --force to ask again: answers are kept, so only what is missing is asked"
        return f"{text}."


def _by_reason(counts: Counter[str]) -> str:
    return "; ".join(f"{count}: {reason}" for reason, count in counts.most_common())


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
    hides it, it is asked about groups whose kind is plain: a model that does not tell them apart is not believed, and
    where these questions have no answer the kind stays unknown.
    """
    shown = draw_examples(
        evidence.codes, evidence.embeddings, evidence.naming_half, seed + 2, positives=SHOWN, negatives=SHOWN
    )
    outcome = Outcome()
    improved, kinds = list(names), {}
    asked_kinds = _Kinds(model, outcome)
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
            kinds[latent] = asked_kinds.of(
                name.label, [evidence.texts[item] for item in shown[latent].positives]
            )
        on_progress(place + 1, len(latents))
    return improved, kinds, outcome


def _proposed(
    model: LanguageModel, evidence: Evidence, shown: Examples, candidates: int, outcome: Outcome
) -> list[str]:
    """The usable labels among the answers, each once.

    None of them is recorded as nonsense or a failure; and, whatever came of the others, that answers are missing.
    """
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
        return []
    if answered < candidates:
        outcome.fewer[reason] += 1
    if not labels:
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


class _Kinds:
    """Asks for kinds, and believes in nuisance only when the model has shown that it can tell it."""

    def __init__(self, model: LanguageModel, outcome: Outcome) -> None:
        self._model, self._outcome = model, outcome
        self._tells: bool | NoAnswerError | None = None  # None until it matters

    def of(self, label: str, inside: Sequence[str]) -> str:
        """The kind of one intent, counted; unknown when answers are missing, do not agree or are not believed."""
        try:
            kind = _kind(self._model, label, inside)
        except NoAnswerError as error:
            self._outcome.unanswered_kinds[str(error)] += 1
            kind = "unknown"
        if kind == "nuisance" and not self._believed():
            kind = "unknown"
        self._outcome.kinds[kind] += 1
        return kind

    def _believed(self) -> bool:
        if self._tells is None:  # once a run: an endpoint that fails is not asked for every intent anew
            try:
                self._tells = _tells_nuisance(self._model)
            except NoAnswerError as error:
                self._tells = error
        if isinstance(self._tells, NoAnswerError):
            self._outcome.unchecked[str(self._tells)] += 1
            return False
        self._outcome.disbelieved += not self._tells
        return self._tells


def _tells_nuisance(model: LanguageModel) -> bool:
    """Whether it calls no plain group nuisance, and most of the accidental ones.

    Both are asked: a model that guesses, or gives every group the same kind, passes one of them easily. Raises
    NoAnswerError when the answers there are do not settle it: silence says nothing about a model.
    """
    if not all(_kind(model, label, texts) in ("intent", "item property") for label, texts in PLAIN_GROUPS):
        return False
    found = sum(_kind(model, label, texts) == "nuisance" for label, texts in ACCIDENTAL_GROUPS)
    return found > len(ACCIDENTAL_GROUPS) // 2


def _kind(model: LanguageModel, label: str, inside: Sequence[str]) -> str:
    """What most of the answers say; unknown when no two agree.

    Raises NoAnswerError when no two agree and answers that are missing might have.
    """
    prompt = kind_prompt(label, inside)
    votes: Counter[str] = Counter()
    missing: list[NoAnswerError] = []
    for number in range(VOTES):
        try:
            kind = usable_kind(model.ask(prompt, number))
        except NoAnswerError as error:
            missing.append(error)
            continue
        if kind:
            votes[kind] += 1
            if votes[kind] > VOTES // 2:
                return kind
    if missing and max(votes.values(), default=0) + len(missing) > VOTES // 2:
        raise missing[-1]
    return "unknown"
