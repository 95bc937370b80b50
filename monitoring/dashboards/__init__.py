"""The Grafana dashboards as code: ``python -m monitoring.dashboards`` writes their files, see docs/dashboards.md."""
