"""Makes the model that the service runs: prepare, train, evaluate, export."""
