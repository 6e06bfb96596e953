"""What several suites share: fakes, hand-turned clocks, and the shortest way to say a thing."""
