"""What became of the intents between two dictionaries."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from saerec_ray.intents.catalogue import Intent
from saerec_ray.intents.identity import NamedLatents, deprecated, match_latents

Fate = Literal["carried", "renamed", "new", "deprecated"]
FATES: tuple[Fate, ...] = ("carried", "renamed", "deprecated", "new")


@dataclass(frozen=True)
class Change:
    """One published intent of the old or the new dictionary."""

    fate: Fate
    intent_id: str
    old_label: str = ""
    new_label: str = ""
    similarity: float | None = None
    """Of the two latents of a carried intent, or of a deprecated one and its first successor."""
    successors: list[tuple[str, str]] = field(default_factory=list)
    """Ids and labels."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {
            "successors": [{"intent_id": each, "label": label} for each, label in self.successors]
        }


def compare_catalogues(old: NamedLatents, new: NamedLatents) -> list[Change]:
    """The fate of every intent that one of two dictionaries publishes, in the order of FATES.

    An id in both is carried, or renamed when the label differs. An id that only the old one publishes is
    deprecated: its successors are those the new catalogue names, or the closest new intents when the new
    dictionary was not made with the old one as its predecessor.
    """
    before, after = old.catalogue.by_id(), new.catalogue.by_id()
    similarity = match_latents(old, new).similarity
    listed = {entry.intent_id: entry for entry in new.catalogue.deprecated}
    changes = []
    for intent in old.catalogue.intents:
        if not intent.published:
            continue
        now = after.get(intent.intent_id)
        if now is not None and now.published:
            changes.append(
                Change(
                    "carried" if now.label == intent.label else "renamed",
                    intent.intent_id,
                    intent.label,
                    now.label,
                    float(similarity[intent.latent, now.latent]),
                )
            )
            continue
        entry = listed.get(intent.intent_id) or deprecated(
            intent, old.catalogue.intents_version, new.catalogue.intents, similarity
        )
        named = [after[each] for each in entry.successors if each in after]
        changes.append(
            Change(
                "deprecated",
                intent.intent_id,
                old_label=intent.label,
                similarity=float(similarity[intent.latent, named[0].latent]) if named else None,
                successors=[(each.intent_id, each.label) for each in named],
            )
        )
    changes += [
        Change("new", intent.intent_id, new_label=intent.label)
        for intent in new.catalogue.intents
        if intent.published and not _was_published(before.get(intent.intent_id))
    ]
    return sorted(changes, key=lambda change: (FATES.index(change.fate), change.intent_id))


def _was_published(intent: Intent | None) -> bool:
    return intent is not None and intent.published
