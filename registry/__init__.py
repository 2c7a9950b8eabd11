"""Who, where, which meter: the dated reference data, its CSV import, and the columns compiled from it."""
