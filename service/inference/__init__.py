"""What runs next, and what it runs on."""
