"""One process's lifetime: model, worker threads and their queue, batches on a GPU, reload, health."""
