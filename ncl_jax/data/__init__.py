"""Reading images: `datasets` (what), `stream` (in which order and crops), `prefetch` (onto the devices).

Only TFRecord files need TensorFlow (`records`, and `decode` and `batches` for the building of textures).
"""
