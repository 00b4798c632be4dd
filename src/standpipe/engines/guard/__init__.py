"""What keeps strangers' words harmless, and answers as they were asked for, whatever engine answers.

* `control_tokens`: which texts are control tokens of a model, how they are broken, how an engine is probed. Pure.
* `guarded`: stands before every engine, and knows what a gpt-oss needs. Begin here.
* `forced_calls`: makes an engine call a tool where one must be called.

It must not know clients, the queue, the pool, or which engine it guards.
"""
