"""The daemon: wiring of roles, CLI, HTTP API, metrics, demo."""
