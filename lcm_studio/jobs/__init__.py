"""Jobs: records that survive, processes of their own, adopted at the next start. No torch here."""
