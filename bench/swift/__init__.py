"""Method `swift` at small scale: sets and their scores, a search, acceptance, cost and speed.

    python -m bench.swift --model DIR [--tokens N] [--threads N] [--combs] [--out FILE]

One process, one session, greedy, against plain decoding of the same texts. Half of the prompts are
searched on, the other half is held out. With eight layers and fewer all sets are scored, else a
sample. The search then runs online, between rounds and within its share of their time; what it
takes is measured. Combs are drafted from the starts of the chains' rounds, hits of their leaves
counted apart; `--combs` does that alone. Writes bench/results/swift-MODEL-MACHINE.json, or
swift-combs-MODEL-MACHINE.json.

texts      a model and texts that it wrote, with exact KV; scores of sets on windows of them
rounds     drafting and verifying along a text, a search between the rounds, combs beside chains
costs      what a draft step, a plain step and a verify pass take
figures    all of it, as one table of values
"""
