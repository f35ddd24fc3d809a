"""The part `intents` as text."""

from __future__ import annotations

from typing import Any

from saerec_ray.evaluation.dictionary_tables import CODING_NAMES, TOGETHER, met_sentence
from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, number, table

_FEATURES = ("dictionary", "random_dictionary", "k_means", "pca", "raw", "permuted")
_FEATURE_NAMES = CODING_NAMES | {"pca": "principal components", "k_means": "k-means, one-hot"}
_SPACES = ("attributes", "texts")
_SPARSITIES = ("1", "2", "5")


def intents_lines(found: dict[str, Any]) -> Lines:
    """Names, probes, purity, intruders."""
    control = found["random_dictionary"]
    lines = ["# Intents", "", *_name_lines(found["detection"]), *_control_lines(found["detection"], control)]
    if "model_detection" in found:
        lines += _judge_lines(found["model_detection"])
    lines += _fuzzing_lines(found["fuzzing"], control["fuzzing"])
    if "probing" in found:
        lines += _probing_lines(found["probing"], found["absorption"])
    if "purity" in found:
        lines += _purity_lines(found["purity"])
    lines += _space_lines(found["spaces"]) if found["spaces"] else []
    return lines + _second_lines(found["cooccurrence"]) if "cooccurrence" in found else lines


def _second_lines(found: dict[str, Any]) -> Lines:
    """Intents of the second dictionary."""
    lines = [f"# Intents of {TOGETHER}", "", f"{met_sentence(found)} Names are judged on all items.", ""]
    lines += _name_lines(found["detection"])
    lines += _control_lines(found["detection"], found["random_dictionary"])
    if "purity" in found:
        lines += _purity_lines(found["purity"])
    return lines + _space_lines(found["spaces"]) if found["spaces"] else lines


def _name_lines(found: dict[str, Any]) -> Lines:
    lines = [
        "## Names",
        "",
        f"{found['published']} of {found['latents']} latents have a published name; they cover "
        f"{found['coverage']:.0%} of the activation.",
    ]
    if not found["judged"]:
        return [*lines, "None of them could be judged on held-out items.", ""]
    return [
        *lines,
        f"{found['judged']} published labels as people read them, judged on items they were not made from, drawn "
        "anew. They were published by their AUC on the same half, which flatters it a little; when they were named "
        f"the mean was {number(found['auc_when_named'])}, and {number(found['auc_when_named_all'])} over all latents "
        "that could be judged. The judge is the cosine of label and item; .5 is chance.",
        "",
        *table(
            ["label", "AUC, mean", "weighted by activation", "median", "share at .7 or more"],
            (
                [
                    title,
                    *(f"{row[key]:.3f}" for key in ("mean", "weighted_mean", "median")),
                    f"{row['good_share']:.0%}",
                ]
                for title, row in (("own", found["own"]), ("of another intent", found["shuffled"]))
                if row
            ),
        ),
        *_fresh_gate_lines(found.get("fresh_gate")),
        *_verdict_lines(
            "The same as verdicts: yes where the cosine reaches the threshold that a label has from the items it was "
            "made from.",
            found["verdicts"],
        ),
    ]


def _fresh_gate_lines(found: dict[str, Any] | None) -> Lines:
    if not found or found["auc"] is None:
        return []
    return [
        f"On items that neither made nor chose them: of {found['judged']} labels that only this gate decides on, "
        f"{found['passed']} have an AUC of {number(found['gate'], '.2f')} or more on one part of the other half, "
        f"{number(found['auc_at_gate'])} in the mean; on the rest of that half they have {number(found['auc'])}.",
        "",
    ]


def _control_lines(found: dict[str, Any], control: dict[str, Any]) -> Lines:
    """Names of the learnt latents beside those that random directions got."""
    random = control["detection"]
    rows = []
    for name, row in (("dictionary", found), ("random_dictionary", random)):
        own, fresh, verdicts = row.get("own"), row["fresh_gate"], row.get("verdicts", {}).get("own")
        rows.append(
            [
                _FEATURE_NAMES[name],
                f"{control['judged_names'][name]} of {row['latents']}",
                number(row["auc_when_named_all"], ".3f"),
                str(row["published"]),
                f"{row['coverage']:.0%}",
                number(own and own["mean"], ".3f"),
                number(fresh and fresh["auc"], ".3f"),
                number(verdicts and verdicts["balanced_accuracy"], ".3f"),
            ]
        )
    return [
        f"Beside them {random['latents']} of {control['of_latents']} random directions, drawn by the seed, active on "
        "as many items, named from the same texts by statistics alone and held to the same gates. Gates let lucky "
        "names through, so how many latents get a name, and its AUC before the gates, tell more than how good the "
        "published ones are.",
        "",
        *table(
            [
                *("latents", "with a name that can be judged", "AUC when named", "published"),
                *(
                    "activation covered",
                    "AUC, published",
                    "on items that did not choose",
                    "balanced accuracy",
                ),
            ],
            rows,
        ),
    ]


def _verdict_lines(sentence: str, found: dict[str, Any]) -> Lines:
    rows = [(title, found[name]) for name, title in (("own", "own"), ("shuffled", "of another intent"))]
    if not any(row for _, row in rows):
        return []
    return [
        sentence,
        "",
        *table(
            ["label", "balanced accuracy, mean", "median", "share at .7 or more", "F1"],
            (
                [
                    title,
                    *(f"{row[key]:.3f}" for key in ("balanced_accuracy", "median")),
                    f"{row['good_share']:.0%}",
                    f"{row['f1']:.3f}",
                ]
                for title, row in rows
                if row
            ),
        ),
    ]


def _judge_lines(found: dict[str, Any]) -> Lines:
    lines = [
        "## Names, judged by a language model",
        "",
        f"{found['model']} was asked whether the label fits the text, for {found['asked']} of "
        f"{found['published']} published labels, drawn by the seed, {found['texts_a_label']} held-out texts each.",
        "",
        *_verdict_lines(f"{found['judged']} labels could be judged.", found),
    ]
    if not found["judged"]:
        lines += ["No label could be judged.", ""]
    if found["unanswered"]:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in sorted(found["reasons"].items()))
        lines += [f"{found['unanswered']} of {found['questions']} questions have no answer ({reasons}).", ""]
    if found["unusable"]:
        lines += [f"{found['unusable']} answers were neither yes nor no.", ""]
    return lines


def _fuzzing_lines(found: dict[str, Any], control: dict[str, Any]) -> Lines:
    left_out = f"{found['one_sentence']} with one sentence and {found['long']} with very many are left out"
    if not found["carriers"]:
        return ["## What in a text the names are about", "", f"No text could be taken apart: {left_out}.", ""]
    return [
        "## What in a text the names are about",
        "",
        f"The sentence without which a latent falls most, in {found['carriers']} texts of {found['intents']} published "
        f"intents ({left_out}), against random spans as long. AUC: how well the cosine with the label tells it from "
        f"spans of items without the intent. It is closer to the label than the random span of its own text in "
        f"{found['closer_share']:.0%} of the texts. Names of random directions: {control['carriers']} texts of "
        f"{control['intents']}, closer in {number(control.get('closer_share'), '.0%')}.",
        "",
        *table(
            ["span", "AUC", "AUC, random dictionary"],
            (
                [span, f"{found[key]:.3f}", number(control.get(key), ".3f")]
                for span, key in (("sentence", "auc"), ("random, same text", "auc_random"))
            ),
        ),
    ]


def _probing_lines(found: dict[str, Any], absorbed: dict[str, Any]) -> Lines:
    rows = [
        [
            _FEATURE_NAMES[name],
            *(f"{row[k][metric]:.3f}" for metric in ("auc", "f1") for k in _SPARSITIES),
        ]
        for name, row in in_order(found["codings"], _FEATURES)
    ]
    dense = found["dense"]
    rows.append(["all raw dimensions", "", "", f"{dense['auc']:.3f}", "", "", f"{dense['f1']:.3f}"])
    return [
        "## Probes for known attributes",
        "",
        f"{found['attributes']} of the {found['of_attributes']} attribute values with 50 items or more, drawn by the "
        f"seed: logistic regression on the 1, 2 or 5 features that differ most in training, measured on "
        f"{found['test_items']} other items. Means over attributes; the last row is the upper bound.",
        "",
        *table(
            ["features", *(f"{metric}, {k}" for metric in ("AUC", "F1") for k in _SPARSITIES)],
            rows,
        ),
        "Absorption proxy, for comparing dictionaries only: of the items on which the best latent of their attribute "
        "is silent, another latent speaks for it on "
        + ", ".join(
            f"{number(row['absorbed'], '.0%')} ({_FEATURE_NAMES[name]}; silent on {row['silent']:.0%})"
            for name, row in in_order(absorbed, _FEATURES)
        )
        + ".",
        "",
    ]


def _purity_lines(found: dict[str, Any]) -> Lines:
    metrics = ("purity", "entropy", "divergence")
    return [
        "## Categories",
        "",
        f"{found['categories']} categories, the largest with {found['base_purity']:.0%} of the items. Purity: share of "
        "a latent's activation in its first category. Entropy: 0 one category, 1 all alike. Divergence: from the "
        "whole catalogue, in nats. Weighted by activation, and the same with the codes of other items.",
        "",
        *table(
            ["features", *(f"{name}{other}" for name in metrics for other in ("", ", other items"))],
            (
                [
                    _FEATURE_NAMES[name],
                    *(f"{row[whose][metric]:.3f}" for metric in metrics for whose in ("own", "permuted")),
                ]
                for name, row in in_order(found["codings"], _FEATURES)
            ),
        ),
    ]


def _space_lines(spaces: dict[str, Any]) -> Lines:
    shown = in_order(spaces, _SPACES)
    tested = [
        (space, row["intruder"], row["intruder_random_dictionary"])
        for space, row in shown
        if row["intruder"]["latents"]
    ]
    lines = [
        "## Items of a latent beside each other",
        "",
        "Judged without the embedding: by shared attribute values (Jaccard), or by shared words (tf-idf). Texts that "
        "name attributes tell the embedding of them.",
        "",
    ]
    if tested:
        lines += [
            f"Intruder: which of five items lacks the latent? {tested[0][1]['latents']} of "
            f"{tested[0][1]['of_latents']} latents, drawn by the seed, {tested[0][1]['trials']} times each.",
            "",
            *table(
                [
                    *("judged by", "found", "95% interval", "published latents"),
                    *("random dictionary", "published", "codes of other items", "chance"),
                ],
                (
                    [
                        space,
                        f"{row['accuracy']:.1%}",
                        interval(row["accuracy_interval"]),
                        number(row["accuracy_published"], ".1%"),
                        *(number(random.get(key), ".1%") for key in ("accuracy", "accuracy_published")),
                        f"{row['shuffled']:.1%}",
                        f"{row['chance']:.0%}",
                    ]
                    for space, row, random in tested
                ),
            ),
        ]
    names = [name for name in _FEATURES if name in shown[0][1]["monosemanticity"]]
    return [
        *lines,
        "Monosemanticity: mean likeness of the 30 items on which a feature is strongest, weighted by activation.",
        "",
        *table(
            ["judged by", *(_FEATURE_NAMES[name] for name in names)],
            (
                [space, *(number(row["monosemanticity"][name]["score"], ".3f") for name in names)]
                for space, row in shown
            ),
        ),
    ]
