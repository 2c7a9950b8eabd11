"""The independent auditor: recomputes every balance with Decimal and dicts; imports config alone.

`audit.run.audit` is the face; `audit.sources` and `audit.run` read files, everything else is pure.
"""
