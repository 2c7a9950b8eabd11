"""Tariff model, calendar -> timeline, kernel, engine: records + state -> effects. Pure."""
