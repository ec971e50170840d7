"""What each exchange's files hold, a module per exchange; tables/schema.py is the registry."""
