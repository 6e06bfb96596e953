"""What an engine has committed, counted, and told to OpenTelemetry where that is installed."""
