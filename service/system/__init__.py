"""The machine: its cores, memory, files, child processes and signals."""
