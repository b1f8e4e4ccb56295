"""The gateway: owns the request (text, tokenizer, stop strings, streaming, replay); no torch.

main        reads settings, builds objects, serves, drains
settings    its options
servicer    the gRPC face: proto -> values -> proto
http_face   the HTTP face, of the OpenAI API; parts: what both faces speak for
request     one request as a checked value
completion  one request from admission to its last message
admission   how many run, how many wait, whose turn it is; drain_rate: for how long;
            token_bucket: how much a tenant may take
active      running requests by id, for Cancel
tokenizer   text <-> ids of the served model; chat: turns -> text; token_bytes: ids one by one
prompt_ids  a prompt of any kind -> ids
detokenizer ids -> text, piece by piece; stops: where the text ends; text: both together
session     one request on the cells, replays included; attempt: on one of them
router      which cell; prefix_index: which has seen the prompt;
            cells: where they are; model_infos: what they run
task_keys   the kind of text of a request, for what its cell learns
"""
