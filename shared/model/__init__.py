"""The model: torch lives here and in the workers.

config        what a checkpoint is, read from a Hugging Face directory and checked
weights       tensors by name out of (sharded) safetensors, with clear errors
linear        matrix products for few rows: oneDNN prepacked, transposed, or the device's own
rope          rotary embedding as one complex product
rows          the packed rows of a pass and where each session's lie
attention     attention of one session's rows over its pages
rms_norm      the norm in front of every block and head
layer_stack   any half-open range of layers over packed rows
sampling      the choice of a token: warping, counter-based noise, confidence
token_subset  which token ids the columns of a draft vocabulary's logits stand for
exit_adapters  what drafts read an exit through, where the model was left as it is
exit_adapter_file  their file beside the model, read and checked
acceptance_heads  how likely the full model is to agree with what an exit chose
acceptance_tables  the same as they are served: what they make of tokens is looked up
acceptance_head_file  their file beside the model, read and checked
exit_file     what both files have in common
draft_adapters  an attention behind an exit that method kangaroo drafts through, with KV of its own
draft_adapter_weights  the same as it is stored, and its sizes
draft_adapter_file  its files beside the model, written, read and checked
page_allocator  which pages belong to whom (no tensors)
segment       device memory that two processes share
kv_pool       KV, exit states and token ids laid out in a segment
plain         plain decoding: the reference
exit_reader   what every exit makes of a finished text
costs         measured times of layers and head

Legend of dimension letters: B sessions, R packed rows, K drafts, D hidden, V vocabulary, N query
heads, G KV heads, J query heads per KV head, H head size, S slots, L layers, U
tokens of a draft vocabulary, M rank of an exit adapter, width of an acceptance head.
"""
