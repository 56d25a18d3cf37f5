"""Who a caller is, and whom an endpoint lets in."""
