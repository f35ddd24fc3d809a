"""The dictionary: sparse autoencoder kinds, trainer, metrics."""
