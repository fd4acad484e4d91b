"""Ship pending events when Cloud Run stops an instance: `exit_on_sigterm`.

Web servers such as uvicorn and gunicorn do this by themselves. A job, or a worker
without a server, needs it.
"""

from outlay.integrations._termination import exit_on_sigterm

__all__ = ("exit_on_sigterm",)
