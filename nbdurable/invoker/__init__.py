"""Where handlers run: links, the stepper of one attempt, and the context it is given."""
