"""Settings, clock, money and unit types, reasons: what every other package may lean on, and which leans on none."""
