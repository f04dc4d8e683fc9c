"""A real Kafka and a real Redis-protocol server on this machine, without Docker, Java or Redis installed."""
