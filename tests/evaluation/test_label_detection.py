"""Labels that say what an intent is find its items; labels of other intents do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import Floats
from saerec_ray.evaluation.intents_tables import intents_lines
from saerec_ray.evaluation.label_detection import HISTOGRAM_BINS, label_detection
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.detection import draw_examples, judge, split_halves
from saerec_ray.intents.gates import AUC_VERDICT
from tests.evaluation.named_planted import catalogue, encoder, intent
from tests.evaluation.planted_dictionary import TOPICS, plant
from tests.evaluation.test_intents_part import FOUND as INTENTS

PLANTED = plant()
CODES = PLANTED.dictionary.encode(PLANTED.vectors)
ENCODE = encoder(PLANTED)


def test_true_labels_are_at_the_ceiling_and_labels_of_others_are_not() -> None:
    found = label_detection(catalogue(), CODES, PLANTED.vectors, ENCODE, seed=3)
    assert found["published"] == found["judged"] == found["latents"] == TOPICS
    assert found["coverage"] == pytest.approx(1)
    assert found["own"] == {
        name: pytest.approx(1) for name in ("mean", "median", "weighted_mean", "good_share")
    }
    assert found["shuffled"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert found["verdicts"]["own"]["balanced_accuracy"] > 0.98
    assert found["verdicts"]["own"]["f1"] > 0.98
    assert found["verdicts"]["own"]["good_share"] == 1
    assert found["verdicts"]["shuffled"]["balanced_accuracy"] == pytest.approx(0.5, abs=0.1)
    assert found["histogram"]["own"] == [0] * (HISTOGRAM_BINS - 1) + [TOPICS]
    assert sum(found["histogram"]["shuffled"]) == TOPICS
    assert len(found["histogram"]["edges"]) == HISTOGRAM_BINS + 1


def test_the_threshold_of_a_verdict_is_set_on_the_half_that_labels_were_made_from() -> None:
    """Where items of the judging half are all closer to every label, verdicts are yes throughout."""
    _, judging = split_halves(len(PLANTED.vectors), 3)
    closer = np.concatenate([PLANTED.vectors, np.zeros((len(PLANTED.vectors), 1))], axis=1).astype(np.float32)
    closer[judging, -1] = 2.0

    def longer(texts: list[str]) -> Floats:
        return np.concatenate([ENCODE(texts), np.ones((len(texts), 1))], axis=1).astype(np.float32)

    found = label_detection(catalogue(), CODES, closer, longer, seed=3)
    assert found["own"]["mean"] == pytest.approx(1), "the order is as it was"
    assert found["verdicts"]["own"]["balanced_accuracy"] == pytest.approx(0.5)


def test_false_labels_are_at_the_floor() -> None:
    rotated = [intent(latent, label=f"topic{(latent + 1) % TOPICS}") for latent in range(TOPICS)]
    found = label_detection(catalogue(rotated), CODES, PLANTED.vectors, ENCODE, seed=3)
    assert found["own"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert found["auc_when_named"] == pytest.approx(0.9), "what the catalogue says is told beside it"


def test_items_are_of_the_half_that_labels_were_not_made_from_and_drawn_anew() -> None:
    named = [intent(latent, label=f"word {latent}") for latent in range(TOPICS)]
    found = label_detection(catalogue(named), CODES, PLANTED.vectors, ENCODE, seed=3)
    _, judging = split_halves(len(PLANTED.vectors), 3)

    def mean(seed: int) -> float:
        examples = draw_examples(CODES, PLANTED.vectors, judging, seed)
        labels = ENCODE([each.label for each in named])
        return float(np.mean([judge(labels[f], examples[f], PLANTED.vectors) for f in range(TOPICS)]))

    assert found["own"]["mean"] == pytest.approx(mean(5))
    assert found["own"]["mean"] != pytest.approx(mean(4), abs=1e-6), "4 is what the catalogue was judged by"


def noise(copies: int = 8) -> tuple[csr_array, Catalogue]:
    """Latents that are active on items at random, whose labels say topics: no label is any better than chance.

    Half of them were published.
    """
    rng = np.random.default_rng(0)
    codes = np.concatenate([CODES.toarray()[rng.permutation(len(PLANTED.vectors))] for _ in range(copies)], 1)
    below = {"state": "unpublished", "verdict": f"{AUC_VERDICT} 0.49, below 0.50"}
    intents = [
        intent(latent, label=f"topic{latent % TOPICS}", **(below if latent % 2 else {}))
        for latent in range(codes.shape[1])
    ]
    return csr_array(codes), catalogue(intents)


def test_a_gate_applied_anew_flatters_no_figure_on_the_items_that_it_did_not_see() -> None:
    codes, named = noise()
    whole = label_detection(named, codes, PLANTED.vectors, ENCODE, seed=3, gate=0.5)
    found = whole["fresh_gate"]
    assert (found["gate"], found["judged"]) == (0.5, len(named.intents))
    assert 0.3 < found["passed"] / found["judged"] < 0.7
    assert found["auc_at_gate"] > 0.54, "what passes is above chance where it was chosen"
    assert found["auc"] == pytest.approx(0.5, abs=0.015)
    text = "\n".join(intents_lines(INTENTS | {"detection": whole}))
    assert (
        f"of {found['judged']} labels that only this gate decides on, {found['passed']} have an AUC of 0.50"
        in text
    )
    assert "On items that neither made nor chose them" in text


def test_true_labels_pass_a_gate_applied_anew_and_stay_at_the_ceiling() -> None:
    found = label_detection(catalogue(), CODES, PLANTED.vectors, ENCODE, seed=3)["fresh_gate"]
    assert found == {
        "gate": 0.7,
        "judged": TOPICS,
        "passed": TOPICS,
        "auc_at_gate": pytest.approx(1),
        "auc": pytest.approx(1),
    }


def test_intents_that_other_gates_hold_back_are_no_matter_of_this_one() -> None:
    """They are not published whatever their name; the others may pass this time."""
    dense = {"state": "unpublished", "verdict": "active on 40% of items, more than 20%"}
    below = {"state": "unpublished", "verdict": f"{AUC_VERDICT} 0.66, below 0.70"}
    named = [
        intent(latent, **(dense if latent < 5 else below if latent < 9 else {})) for latent in range(TOPICS)
    ]
    found = label_detection(catalogue(named), CODES, PLANTED.vectors, ENCODE, seed=3)
    assert found["published"] == TOPICS - 9
    assert (found["fresh_gate"]["judged"], found["fresh_gate"]["passed"]) == (TOPICS - 5, TOPICS - 5)


def test_no_label_that_passes_anew_is_no_error() -> None:
    codes, named = noise(1)
    found = label_detection(named, codes, PLANTED.vectors, ENCODE, seed=3, gate=1.0)["fresh_gate"]
    assert (found["passed"], found["auc_at_gate"], found["auc"]) == (0, None, None)


def test_only_published_intents_are_judged_and_cover_their_activation() -> None:
    intents = [
        intent(
            latent, state="active" if latent < 10 else "unpublished", detection_auc=0.8 if latent else None
        )
        for latent in range(TOPICS)
    ]
    found = label_detection(catalogue(intents), CODES, PLANTED.vectors, ENCODE, seed=3)
    mass = CODES.toarray().sum(axis=0)
    assert found["published"] == found["judged"] == 10
    assert found["coverage"] == pytest.approx(mass[:10].sum() / mass.sum())
    assert found["auc_when_named"] == pytest.approx(0.8)
    assert sum(found["histogram"]["own"]) == 10


def test_heavy_intents_weigh_more() -> None:
    heavy = CODES.toarray()
    heavy[:, 0] *= 50
    labels = [intent(0, label="nonsense"), *(intent(latent) for latent in range(1, TOPICS))]
    found = label_detection(catalogue(labels), type(CODES)(heavy), PLANTED.vectors, ENCODE, seed=3)
    assert found["own"]["weighted_mean"] < found["own"]["mean"] - 0.1


def test_intents_of_a_second_dictionary_are_left_out() -> None:
    more = [*catalogue().intents, intent(TOPICS, label="together"), intent(TOPICS + 1, label="bought")]
    found = label_detection(catalogue(more), CODES, PLANTED.vectors, ENCODE, seed=3)
    assert found == label_detection(catalogue(), CODES, PLANTED.vectors, ENCODE, seed=3)


def test_one_published_intent_has_no_other_to_be_compared_with_and_none_is_no_error() -> None:
    one = [intent(0), *(intent(latent, state="unpublished") for latent in range(1, TOPICS))]
    found = label_detection(catalogue(one), CODES, PLANTED.vectors, ENCODE, seed=3)
    assert found["own"]["mean"] == pytest.approx(1)
    assert found["shuffled"] is None
    assert found["verdicts"]["shuffled"] is None
    none = [intent(latent, state="unpublished", detection_auc=None) for latent in range(TOPICS)]
    found = label_detection(catalogue(none), CODES, PLANTED.vectors, ENCODE, seed=3)
    assert (found["published"], found["judged"], found["coverage"]) == (0, 0, 0)
    assert found["auc_when_named"] is None
