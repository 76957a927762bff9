"""The errors whose messages reach the user: one sentence with the value, what is allowed and the remedy."""

from __future__ import annotations


class StudioError(Exception):
    """Base of every error that is the user's to read; its text is shown as it is, without a traceback."""


class BadRequest(StudioError):
    """A request that cannot be carried out as asked."""


class BadImage(BadRequest):
    """An upload that is not a picture the studio takes."""


class TooLarge(BadImage):
    """A picture that would be taken if it were smaller."""


class ModelError(StudioError):
    """A model that cannot be loaded or used."""


class Cancelled(StudioError):
    """The user stopped the work."""


class Busy(StudioError):
    """The queue is full."""
