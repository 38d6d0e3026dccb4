"""Read, split and trace convolutional networks."""
