"""What a run tells the outside: events, trackers, validation pictures."""
