"""Whether published names find the items of their intents, as a language model reads name and text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.evaluation.label_detection import strangers
from saerec_ray.evaluation.verdicts import Rates, summary
from saerec_ray.intents.catalogue import Catalogue, Intent
from saerec_ray.intents.detection import MIN_POSITIVES, Examples, draw_examples, split_halves
from saerec_ray.intents.label_prompts import detection_prompt, usable_verdict
from saerec_ray.intents.language_model import LanguageModel, NoAnswerError

Floats = npt.NDArray[np.float32]

_OTHER_EXAMPLES = 3
"""Added to the seed: naming and the embedding judge took those before."""


@dataclass(frozen=True)
class Judge:
    """A language model, and how much it is asked."""

    model: LanguageModel
    intents: int  # labels judged at most, drawn by the seed
    texts: int  # asked about for each label, a multiple of 20; half of them carry the intent


@dataclass
class _Asked:
    """What came of the questions."""

    questions: int = 0
    unanswered: int = 0
    unusable: int = 0
    rates: dict[str, list[Rates]] = field(default_factory=lambda: {"own": [], "shuffled": []})


def model_detection(
    judge: Judge,
    catalogue: Catalogue,
    codes: csr_array,
    vectors: Floats,
    texts: Sequence[str],
    seed: int,
    on_progress: Callable[[float, float], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Balanced accuracy and F1 of published labels by a language model that answers yes or no to each text.

    `codes`: (items, latents); `vectors`: unit embeddings, (items, d); `texts` of the items; `seed`: of the
    intents stage. Items are of the half that labels were not made from: carriers from every decile of
    activation, and of the others half at random and half those closest to the carriers. `shuffled` asks about
    the label of another published intent on the same items. A label is judged where at least half of the texts
    of either side have a usable answer; what is missing is counted. Answers are kept, so that the next run
    asks what is missing.
    """
    published = [each for each in catalogue.intents if each.published and each.latent < codes.shape[1]]
    side = judge.texts // 2
    _, judging = split_halves(len(vectors), seed)
    examples = draw_examples(codes, vectors, judging, seed + _OTHER_EXAMPLES, side, side)
    judgeable = [each for each in published if examples[each.latent].judgeable]
    chosen = np.random.default_rng(seed).permutation(len(judgeable))[: judge.intents]
    drawn = [judgeable[place] for place in np.sort(chosen)]
    asked = _Asked()
    others = strangers(len(drawn), seed)
    for place, intent in enumerate(drawn):
        shown = examples[intent.latent]
        _ask(judge, "own", intent, shown, texts, asked)
        if len(drawn) > 1:
            _ask(judge, "shuffled", drawn[others[place]], shown, texts, asked)
        on_progress(place + 1, len(drawn))
    usage = judge.model.usage
    return {
        "model": judge.model.name,
        "published": len(published),
        "asked": len(drawn),
        "judged": len(asked.rates["own"]),
        "texts_a_label": judge.texts,
        **{name: summary(rates) if rates else None for name, rates in asked.rates.items()},
        "questions": asked.questions,
        "unanswered": asked.unanswered,
        "unusable": asked.unusable,
        "reasons": dict(usage.failures),
        "calls": usage.calls,
        "cached_answers": usage.cached,
        "tokens": usage.tokens,
    }


def _ask(
    judge: Judge, name: str, labelled: Intent, shown: Examples, texts: Sequence[str], asked: _Asked
) -> None:
    """Asks whether the label of an intent fits each text, and keeps the rates where enough was answered."""
    sides = []
    for items in (shown.positives, shown.negatives):
        verdicts = [_verdict(judge.model, labelled.label, texts[item], asked) for item in items]
        sides.append(np.array([verdict for verdict in verdicts if verdict is not None], dtype=bool))
    if all(
        len(usable) >= max(MIN_POSITIVES, len(items) / 2)
        for usable, items in zip(sides, (shown.positives, shown.negatives), strict=True)
    ):
        asked.rates[name].append(Rates.of(*sides))


def _verdict(model: LanguageModel, label: str, text: str, asked: _Asked) -> bool | None:
    asked.questions += 1
    try:
        answer = model.ask(detection_prompt(label, text))
    except NoAnswerError:
        asked.unanswered += 1  # model.usage.failures says why
        return None
    verdict = usable_verdict(answer)
    asked.unusable += verdict is None
    return verdict
