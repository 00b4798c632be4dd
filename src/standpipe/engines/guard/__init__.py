"""What keeps strangers' words harmless, and answers as they were asked for, whatever engine answers.

* `control_tokens`: the one door through which requests leave, without a control token of a client's; and how an engine
  is probed for what it does with them. Pure. Begin here.
* `guarded`: stands before every engine, and knows what a gpt-oss needs.
* `forced_calls`: makes an engine call a tool where one must be called.

It must not know clients, the queue, the pool, or which engine it guards.
"""
