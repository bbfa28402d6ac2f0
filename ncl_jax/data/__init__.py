"""Reading images: `datasets` (what), `stream` (in which order and crops), `prefetch` (onto the devices).

Only TFRecord files need TensorFlow (`records`).
"""
