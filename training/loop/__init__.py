"""The training loop that every network shares: schedule, EMA, checkpoints, run folders, previews."""
