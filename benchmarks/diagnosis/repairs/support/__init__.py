"""What repairs share: cues on images, their exchange, changed images, features of the last layer."""
