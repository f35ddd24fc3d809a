"""Latents to a catalogue of intents: labels, gates, population statistics."""
