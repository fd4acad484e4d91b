"""Run all benchmarks: ``python -m bench``."""

from bench import disk, requests, server_ingest, shipping, track_cost

track_cost.main()
disk.main()
requests.main()
shipping.main()
server_ingest.main()
