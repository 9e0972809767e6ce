"""The comparison of training objectives: runs, results, tables."""
