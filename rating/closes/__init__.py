"""Pure: what a bill cycle costs beside the price of its energy: whatever is not linear, reckoned when a cycle closes.

stretch.py      days of a cycle on which a version says one thing
netting.py      energy that is fed in against what is taken
allocation.py   which tier energy falls into: slab, proportional, a ladder for each period
rounding.py     shares of amounts, to a step, for whole columns
reckoning.py    the charges of a version in their order, for many accounts at once
standing.py, levy.py, credit.py, percent.py, minimum.py, export.py: a kind of charge each (rating.tariff.charges)
"""
