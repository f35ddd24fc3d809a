"""Public formats to a prepared set: ids, k-core, splits, item texts."""
