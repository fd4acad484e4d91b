"""Send requests in another way, or look at them.

A `Transport` posts one body and returns a `TransportResponse`. `HttpTransport` is the
one that a client uses if it is given none.
"""

from outlay._shipping.http_transport import HttpTransport
from outlay._shipping.transport import Transport, TransportResponse

__all__ = ("HttpTransport", "Transport", "TransportResponse")
