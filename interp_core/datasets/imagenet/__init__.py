"""ImageNet as its owners ship it."""
