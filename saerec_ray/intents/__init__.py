"""Latents to a catalogue of intents: labels, gates, population statistics."""

INTENT_ID = r"int-[0-9a-f]{8,64}"
"""The whole of an intent id, as a regular expression."""
