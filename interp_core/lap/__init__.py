"""Local attention pooling: the blocks, the model they make of a backbone, and its files."""
