"""The Distil tab: runs of the trainer."""
