"""HTTP/1.1 and nothing else: bytes to Request and Reply. Knows no chat."""
