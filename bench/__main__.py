"""Run all benchmarks: ``python -m bench``."""

from bench import server_ingest, shipping, track_cost

track_cost.main()
shipping.main()
server_ingest.main()
