"""Run all benchmarks: ``python -m bench``."""

from bench import agent, disk, requests, server_ingest, shipping, spans, track_cost

track_cost.main()
disk.main()
requests.main()
shipping.main()
agent.main()
server_ingest.main()
spans.main()
