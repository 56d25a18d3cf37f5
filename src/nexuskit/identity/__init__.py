"""Who a caller is, whom an endpoint lets in, and what names an endpoint everywhere."""
