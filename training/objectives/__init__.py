"""What a run learns from: losses as functions of networks and tensors, one file for each family."""
