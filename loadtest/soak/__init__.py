"""The service under chaos for minutes: what its clients were promised, and what it keeps of those who left."""
