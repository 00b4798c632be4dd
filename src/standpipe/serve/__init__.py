"""The walk: where everything meets on one request."""
