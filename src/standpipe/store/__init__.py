"""State that outlives a request, held in this process's memory.

    paces.py    one timestamp per client, for the rate limiter (`policy.pace`)
    blobs.py    bytes that a client may have back for a while: a cache with owners, quotas and an expiry

Plain synchronous classes: each call is one step, so no caller can see half of it. Knows nothing of requests, formats or
engines. All of it may be lost at any time without anything becoming unsafe. Begin with `paces`.
"""
