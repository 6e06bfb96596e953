"""Where handlers run: links, the stepper that drives one attempt, and the context they are given."""
