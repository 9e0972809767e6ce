"""The autoencoder, its losses and objectives, its recipes, and their training."""
