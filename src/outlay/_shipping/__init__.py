"""From the journal to the server: plan, post, judge each event, retry.

Policies (`outcomes`, `retrying`, `gate`, `pacing`) decide and do nothing; the `shipper`
acts, and owns the package's only threads. Imported when shipping starts, not before:
httpx and tenacity cost more to import than the rest of outlay.
"""
