"""From photos to pairs of eye and face: sources, alignment, storage, augmentation."""
