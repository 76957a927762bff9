"""The Create tab: words to pictures."""
