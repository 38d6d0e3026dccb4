"""Read images, masks and tables from folders."""
