"""Integer networks: a deployed network without a float between its input and its last layer."""
