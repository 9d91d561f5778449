"""Data for training and evaluation, one set a file or folder.

Sets on disk are read in two steps. `index.write_index` goes through a set once, by its reader of `READERS`, and keeps
what it found: clips, frames, cameras, prompts. `mixture.Mixture` draws samples from such indices and loads their
pixels.
"""

# name: "module:function" of what goes through a set's folder, ``function(root, reading) -> iterator of clips.Clip``.
# The module says in LAYOUT what the folder has to look like. ToyWorld is drawn, not read, and needs none.
READERS = {
    "mvimgnet": ".mvimgnet:clips",
    "realestate10k": ".realestate10k:clips",
    "dl3dv": ".dl3dv:clips",
    "wildrgbd": ".wildrgbd:clips",
    "image_text": ".image_text:clips",
    "videos": ".videos:clips",
    "listing": ".listing:clips",
    "shards": ".shards:clips",
}
