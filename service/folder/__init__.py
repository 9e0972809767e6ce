"""Many photos at once, without a server: folders, manifests, Ray."""
