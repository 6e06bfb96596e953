"""What is drawn. One picture of a run; as a live widget, as static HTML, and as text."""
