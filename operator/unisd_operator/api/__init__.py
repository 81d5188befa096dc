"""The resource as the API server holds it: names, labels, status, generated schema."""
