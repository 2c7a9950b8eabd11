"""The demo: a small city for a month, the parents' balance that runs low, the daughter who pays; then the proofs."""
