"""Makes a draft vocabulary: which tokens a corpus is made of, and what it saves to draft from them.

corpus       texts of plain or JSON-lines files, in batches
tokenizer    the model's tokenizer, for counting
counting     how often each token came; the most frequent of them (pure)
prediction   what a draft head of fewer rows saves, by the weights it reads (pure)
"""
