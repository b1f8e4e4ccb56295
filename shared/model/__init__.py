"""The model: torch lives here and in the workers.

config        what a checkpoint is, read from a Hugging Face directory and checked
weights       tensors by name out of (sharded) safetensors, with clear errors
linear        matrix products for few rows: oneDNN prepacked, transposed, or the device's own
rope          rotary embedding as one complex product
rows          the packed rows of a pass and where each session's lie
attention     attention of one session's rows over its pages
layer_stack   any half-open range of layers over packed rows
sampling      the choice of a token: warping, counter-based noise, confidence
page_allocator  which pages belong to whom (no tensors)
segment       device memory that two processes share
kv_pool       KV, exit states and token ids laid out in a segment
plain         plain decoding: the reference
costs         measured times of layers and head

Legend of dimension letters: B sessions, R packed rows, K drafts, D hidden, V vocabulary, N query
heads, G KV heads, J query heads per KV head, H head size, S slots, L layers.
"""
