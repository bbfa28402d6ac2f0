"""Reading images: `datasets` (what), `stream` (in which order and crops), `prefetch` (onto the devices).

`drawing` and `prefetch` need no TensorFlow, `datasets` only once a dataset is opened.
"""
