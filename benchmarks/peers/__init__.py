"""What a user would pick instead: each a process of its own, with the same input, whose answer must be the same.

    job.py          the readings of `batch.*` and `stream.*`, and what must come out
    balances.py     the batches of `state.*`
    ours_batch.py, duckdb_batch.py, polars_batch.py, pandas_batch.py, numpy_batch.py
    single.py, ours_stream.py, numpy_stream.py, dict_stream.py, bytewax_stream.py
    year.py, ours_year.py, pysam_year.py
    ours_state.py, sqlite_state.py, postgres_state.py

A worker is `python -m benchmarks.peers.NAME FOLDER RUNS`. It loads its input first, does the work so many times, and
prints {"seconds": [...], "digest": "..."}; loading is not counted. All have one thread. What meterd does not need
itself is installed into a virtual environment of the benchmarks' own, pinned by constraints.txt beside this file.
"""
