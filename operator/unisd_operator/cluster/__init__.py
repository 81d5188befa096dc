"""The one place that talks to the API server and to pods. Translates their errors once."""
