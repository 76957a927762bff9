"""Requests, limits, events and errors: what every door of the studio speaks. No torch here."""
