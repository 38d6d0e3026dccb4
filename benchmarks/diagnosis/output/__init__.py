"""What a user reads of a diagnosis: findings file, page, JUnit, pictures, comparison with an older one."""
