"""Plant a shortcut in the training images and measure whether a network can be told to ignore it."""
