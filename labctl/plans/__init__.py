"""Recipe -> Plans: seeds, derived integers, keys. No torch."""
