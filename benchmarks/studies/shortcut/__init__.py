"""Control what a network looks at when a shortcut is planted."""
