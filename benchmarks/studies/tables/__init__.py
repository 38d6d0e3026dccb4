"""Put several stored runs into one table."""
