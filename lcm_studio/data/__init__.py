"""Data sets as files: what is in a folder or in shards, and the doctor who looks at it. No torch here."""
