"""Pure codecs between bytes and the vocabulary: one module per public API format. Siblings never import each other,
except the framings (`sse`, `ndjson`), which are no dialects."""
