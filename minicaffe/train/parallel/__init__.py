"""How several ranks train one net: what they must agree on, and how their gradients travel.

Read ``exchange.py`` first, then ``low_rank_gradients.py``, then ``agreement.py``.
"""
