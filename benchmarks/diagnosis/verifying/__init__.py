"""Compare a network before and after a repair: accuracies, dependence on the cause, verdict."""
