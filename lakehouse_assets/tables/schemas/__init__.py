"""The table schemas, a module per exchange; tables/schema.py is the registry."""
