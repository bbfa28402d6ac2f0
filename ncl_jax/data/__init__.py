"""Reading images: `datasets` (what), `stream` (in which order and crops), `prefetch` (onto the devices).

`drawing` and `prefetch` need no TensorFlow; `datasets` imports it only when a dataset is opened, `stream` and the
builders (`shapes_textures`, `imagenet100`) at once.
"""
