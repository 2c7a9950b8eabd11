"""Pure and I/O: `meterd rate`, the engine over a file of readings, without a daemon."""
