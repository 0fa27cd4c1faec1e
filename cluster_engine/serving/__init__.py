"""The HTTP face of the binding index: requests in JSON or Arrow, answered by a service that it is given."""
