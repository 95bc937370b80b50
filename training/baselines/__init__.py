"""Other people's networks, measured by our rule."""
