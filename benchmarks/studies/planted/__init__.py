"""Planted causes: networks whose wrong reason is known, to judge what a diagnosis finds and a repair mends."""
