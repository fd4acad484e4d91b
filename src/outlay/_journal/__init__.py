"""Pending events on disk: append, read back, settle, recover. No network.

track_cost ─▶ journal ─▶ appender ─▶ segments ─▶ frames        the caller's side
                 │          └─▶ segment_opener ─▶ folders ─▶ locks
shipper ───▶ journal ─▶ reader ─▶ segment_reader ─▶ frames     the shipper's side
                 └─▶ recovery ─▶ folders, agent_progress       other writers
outlay journal ─▶ admin/edit ─▶ admin/commit ─▶ marked_lines   commands
"""
