// What the reason of a round means, as `shortstack sessions` says it; a test holds them together.

export const REASONS = {
  policy: "the policy's own choice",
  pinned: "the request fixed it",
  hold: "another choice is not clearly better: the last one stays",
  tuned: "another length or a threshold would have served the session's last text better",
  shorter: "a shorter draft than wished delivers more with this many sessions",
  limit: "shortened to the tokens, context or rows left, or plain where none are",
  no_pages: "shortened to the memory left, or plain where none is",
  probe: "this one round differs from the plan, to learn from it",
  cold: "plain: nothing is known of the session yet that would pay for drafts",
  unprofitable: "plain: drafts are expected to cost more than they bring",
  shed: "plain: with the sessions there are now, its drafts cost more than they bring",
  arbiter: "plain: at this load plain rounds were measured to be faster",
  prompts: "plain: beside the prompts that ride along drafts cost more than they bring",
  guard: "plain for a while: the session's drafts were measured to slow it down",
  no_costs: "plain: the cell has not measured its costs yet",
  no_draft_worker: "plain: nobody drafts in this cell now",
  stream_off: "plain: no skip set was found with which drafts of this kind of text pay",
  killed: "plain: speculation is switched off for this model",
};
