"""Train LAP on a few hundred chest X-rays with labels of images alone."""
