"""CelebA as its owners ship it."""
