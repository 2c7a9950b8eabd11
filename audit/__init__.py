"""The independent auditor: Decimal and dicts; imports config/ and nothing else of ours."""
