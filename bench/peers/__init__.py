"""The same workload behind other servers; each file is started by its own package's command."""
