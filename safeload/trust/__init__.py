"""Who vouches for bytes: digests here, one module per signature scheme beside them."""
