"""The pair test on two trained networks of a user, from files."""
