"""What a run must remember: networks, averages, the optimizer; and how that is kept on disk."""
