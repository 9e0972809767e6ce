"""What every trainer shares: run folders, checkpoints, precision, previews."""
