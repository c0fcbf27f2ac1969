"""From action chunks to commands, one per control tick. Numpy only."""
