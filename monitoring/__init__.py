"""What watches the service from outside. Only the code that writes dashboards is Python, and no part of the service."""
