"""Who may send requests and how many: API keys, admission control, rate limits."""
