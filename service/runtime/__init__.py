"""Cores, memory, queues and threads; knows nothing of images or HTTP."""
