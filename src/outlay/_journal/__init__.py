"""Pending events on disk: append, read back, settle, recover. No network.

<journal_dir>/<destination>/meta.json           format version, where events go
<journal_dir>/<destination>/<writer>/           one folder for each writing process
    writer.lock  shipper.lock                 held for life: who appends, who ships
    00000001.seg  00000002.seg …              segments of frames, see `frames`
<journal_dir>/<destination>/dead/<writer>.jsonl dead letters and quarantine
"""
