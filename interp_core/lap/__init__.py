"""Local attention pooling: the blocks, the model that combines them with a backbone, and its files."""
