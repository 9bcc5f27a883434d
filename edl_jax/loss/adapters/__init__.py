"""One loss, many places: on a fused cross-entropy, on a linear layer without its logits, on several labels."""
