"""Images that are made here, with evidence that is known."""
