"""Access control: API keys, admission control, rate limits, TLS."""
