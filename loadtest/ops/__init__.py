"""What the monitoring shows of a service under load: the queries of all panels, as checked in."""
