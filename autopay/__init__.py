"""Mandates, decisions, orders, gateways, notices: a low balance becomes one charge, and both are told."""
