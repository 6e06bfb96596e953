"""What may happen, one file per area; each rule reads the state and records facts."""
