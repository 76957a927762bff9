"""Data for training: sources of (picture, caption), a counter-based order, caches of encodings.

A source is anything with `len(source)` and `item(index) -> Item`; see `source.Source`. Indices are
stable: the same index gives the same picture for as long as `source.key` stays the same.
"""
