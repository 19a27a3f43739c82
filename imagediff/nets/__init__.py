"""Networks of image tasks."""
