"""One process's lifetime: model, workers, start, reload, health."""
