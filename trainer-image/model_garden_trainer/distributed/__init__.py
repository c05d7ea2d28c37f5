"""Several processes that train together: starting them, and what they agree on."""
