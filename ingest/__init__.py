"""Bytes -> columns -> the reading log: codecs, bounds, routing, log, archive, MQTT shell."""
