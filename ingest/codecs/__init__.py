"""One wire format per file; each turns payload bytes into reading columns or a reject."""
